"""One contender of a benchmark, in a process of its own: it loads, then runs what it is told.

    python -m dptcli.benchmark.contenders '{"name": "dpt", …}'

reads one JSON line a command on standard input ("forward", "photographs", "rate", "accuracy") and
answers one JSON line on standard output. Contenders take turns, so each has the machine to itself,
its own peak of memory, and the same weather as the others.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Protocol

import numpy as np
import torch

from dptcli.benchmark.arithmetic import count_gflop, product_rate, without_weights
from dptcli.depth.facts import model_facts
from dptcli.depth.outputs import DepthOutputs
from dptcli.depth.prompts import Prompts
from dptcli.errors import ImageError, ModelError, UsageError
from dptcli.export import import_onnx_runtime
from dptcli.fast.optimize import unjoined_attentions
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, Pipeline, Prediction, open_pipeline
from dptcli.results.plan import Job, photo_facts, plan_outputs
from dptcli.segments.maskfiles import Style
from dptcli.segments.outputs import SegmentOutputs
from dptcli.segments.palettes import choose_palette
from dptcli.weights.load import resolve_device

MOST_COMPARED = 8  # photographs whose results are compared with float32's


@dataclass(frozen=True)
class Spec:
    """What a contender runs: the model's folder or name, the task, what the network sees.

    images: the photographs. out: a folder for results. export: the network as an ONNX file.
    runtime: what runs our own loop's network. prompt: where a depth sensor's map of each photograph
    lies, as `Prompts`; one file serves them all.
    """

    name: str
    model: str
    task: str
    images: Sequence[str]
    out: str
    size: int | tuple[int, int] | None = None
    device: str = "auto"
    dtype: str = "auto"
    optimize: bool = True
    exact: bool | None = None
    batch_size: int = 1
    export: str | None = None
    runtime: str = "torch"
    prompt: str | None = None

    @property
    def prompts(self) -> Prompts | None:
        """Where the sensor's maps lie. Raises UsageError."""
        return None if self.prompt is None else Prompts(self.prompt)

    def to_json(self) -> str:
        """All fields."""
        return json.dumps(asdict(self))


class Contender(Protocol):
    """What every contender does. `photographs` is None where it is a network alone."""

    def forward(self) -> None:
        """Run the network once on the first photograph, made ready beforehand."""

    photographs: Callable[[], Mapping[str, Any]] | None


class Ours:
    """The loop of `dpt depth` and `dpt segment`."""

    def __init__(self, spec: Spec) -> None:
        task: Any = spec.task
        self.spec = spec
        self.pipeline: Pipeline = open_pipeline(
            spec.model,
            task=task,
            device=spec.device,
            dtype=spec.dtype,
            optimized=spec.optimize,
            size=spec.size,
            runtime=spec.runtime,
            prompted=spec.prompt is not None,
            options=Options(batch_size=spec.batch_size, prompts=spec.prompts, exact=spec.exact),
        )
        self.load_s = self.pipeline.clock.seconds["load"]
        sources = find_images(list(spec.images), recursive=False)
        self.jobs = plan_outputs(sources, spec.out, existing="overwrite").jobs
        self.sample = self.pipeline.decode(sources[0])

    def forward(self) -> None:
        """As Contender's."""
        self.pipeline.predict([self.sample] * self.spec.batch_size)

    def photographs(self) -> Mapping[str, Any]:
        """Run the loop over the photographs; its own busy seconds by stage."""
        before = dict(self.pipeline.clock.seconds)
        report = self.pipeline.run(self.jobs, save=self._saver())
        if report.failed:
            raise ModelError(f"bench: {report.failed[0].error}")
        stages = {name: spent - before[name] for name, spent in report.stage_s.items()}
        return {"stage_s": {**stages, "load": self.load_s}}

    def facts(self) -> Mapping[str, Any]:
        """What runs, and how much arithmetic one image of PyTorch's network is."""
        loaded = self.pipeline.loaded
        hw = self.sample.prepared.pixel_values.shape[-2:]
        on_gpu = loaded.device.type == "cuda"
        arithmetic: dict[str, Any] = {}
        if self.spec.runtime == "torch":
            prompt = self.sample.view.prompt
            plain = without_weights(loaded.model.config, type(loaded.model))
            if self.spec.optimize:
                arithmetic["plain_attentions"] = unjoined_attentions(plain)
            arithmetic["gflop"] = count_gflop(
                plain,
                tuple(hw),
                prompt_hw=None if prompt is None else (prompt.shape[-2], prompt.shape[-1]),
            )
        return {
            "network_hw": list(hw),
            "runtime": loaded.runtime,
            "dtype": loaded.dtype_name,
            "device": str(loaded.device),
            "gpu": torch.cuda.get_device_name(loaded.device) if on_gpu else None,
            **arithmetic,
        }

    def rate(self) -> float:
        """GFLOP/s of a large matrix product in the model's dtype."""
        return product_rate(self.pipeline.loaded.device, self.pipeline.loaded.dtype)

    def profile(self) -> Mapping[str, float]:
        """Seconds of a batch through the network, by kind of operation."""
        from dptcli.benchmark.profile import profiled

        loaded = self.pipeline.loaded
        return profiled(loaded.model, self.forward, on_gpu=loaded.device.type == "cuda")

    def accuracy(self) -> Mapping[str, float]:
        """How far the results are from the plain model's in float32, over the photographs.

        Depth: {"mean_difference", "max_difference"}, of the plain map's range. Segmentation:
        {"same_labels"}, the share of equal labels. Loads the model once more.
        """
        loaded = self.pipeline.loaded
        networks = (
            self.pipeline.network,
            _plain_pipeline(self.spec, device=self.spec.device).network,
        )
        found: list[dict[str, float]] = []
        for source in find_images(list(self.spec.images), recursive=False)[:MOST_COMPARED]:
            view = self.pipeline.decode(source).view
            narrow, exact = (network.run([view])[0].maps for network in networks)
            if loaded.task == "segment":
                same = (narrow.argmax(0) == exact.argmax(0)).float().mean()
                found.append({"same_labels": float(same)})
            else:
                apart = (narrow - exact).abs() / (exact.max() - exact.min()).clamp_min(1e-12)
                found.append(
                    {"mean_difference": float(apart.mean()), "max_difference": float(apart.max())}
                )
        return {
            name: (max if name.startswith("max") else mean)(one[name] for one in found)
            for name in found[0]
        }

    def _saver(self) -> Callable[[Job, Prediction], Mapping[str, object]]:
        loaded = self.pipeline.loaded
        if loaded.task == "depth":
            outputs, facts = DepthOutputs(), model_facts(loaded)
            return lambda job, prediction: outputs.save(job, prediction, facts)
        names, colors = choose_palette("auto", loaded.labels)
        masks = SegmentOutputs(style=Style(colors), names=names, model=loaded.name)
        return lambda job, prediction: masks.write(
            job.path, {}, prediction.values, rgb=None, scores=None, photo=photo_facts(job)
        )


class Transformers:
    """The reference: its pipeline, with its own results saved by Pillow."""

    def __init__(self, spec: Spec) -> None:
        try:
            import transformers
        except ImportError as error:
            raise UsageError("--against transformers: pip install transformers") from error
        from PIL import Image

        transformers.logging.set_verbosity_error()
        self.open, self.spec = Image.open, spec
        task: Any = "depth-estimation" if spec.task == "depth" else "image-segmentation"
        device = resolve_device(spec.device)
        self.pipe: Any = transformers.pipeline(task, model=spec.model, device=device)
        self.pixels = _network_input(spec)

    def forward(self) -> None:
        """As Contender's."""
        with torch.inference_mode():
            output = self.pipe.model(self.pixels.to(self.pipe.device))
        map_name = "predicted_depth" if self.spec.task == "depth" else "logits"
        getattr(output, map_name).cpu()  # waits for a GPU

    def photographs(self) -> Mapping[str, Any]:
        """In batches from a generator, as its documentation has it for many."""
        pictures = (self.open(name).convert("RGB") for name in self.spec.images)
        results = self.pipe(pictures, batch_size=self.spec.batch_size)
        for name, found in zip(self.spec.images, results, strict=True):
            picture = found["depth"] if self.spec.task == "depth" else found[0]["mask"]
            picture.save(Path(self.spec.out) / f"{Path(name).stem}.png")
        return {}


class OpenVINO:
    """The same network, exported, by OpenVINO: the network alone."""

    photographs = None

    def __init__(self, spec: Spec) -> None:
        try:
            import openvino
        except ImportError as error:
            raise UsageError("--against openvino: pip install openvino") from error

        self.pixels = _network_input(spec).numpy()
        core = openvino.Core()
        network = core.read_model(spec.export)
        network.reshape(list(self.pixels.shape))
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if spec.dtype == "float32":
            hints["INFERENCE_PRECISION_HINT"] = "f32"
        self.compiled = core.compile_model(network, "CPU", hints)

    def forward(self) -> None:
        """As Contender's."""
        self.compiled(self.pixels)


class OnnxRuntime:
    """The same network, exported, by ONNX Runtime: the network alone."""

    photographs = None

    def __init__(self, spec: Spec) -> None:
        try:
            onnxruntime = import_onnx_runtime()
        except ImportError as error:
            raise UsageError("--against onnxruntime: pip install onnxruntime") from error

        self.pixels = _network_input(spec).numpy()
        self.session = onnxruntime.InferenceSession(spec.export, providers=["CPUExecutionProvider"])
        [self.input] = [node.name for node in self.session.get_inputs()]

    def forward(self) -> None:
        """As Contender's."""
        self.session.run(None, {self.input: self.pixels})


PEERS: Mapping[str, Callable[[Spec], Any]] = {
    "transformers": Transformers,
    "openvino": OpenVINO,
    "onnxruntime": OnnxRuntime,
}
CONTENDERS = {"dpt": Ours, **PEERS}


def _plain_pipeline(spec: Spec, *, device: str) -> Pipeline:
    task: Any = spec.task
    return open_pipeline(
        spec.model,
        task=task,
        device=device,
        dtype="float32",
        optimized=False,
        size=spec.size,
        prompted=spec.prompt is not None,
    )


def _network_input(spec: Spec) -> torch.Tensor:
    """The first photograph as our processor prepares it: the same for every contender."""
    plain = _plain_pipeline(spec, device="cpu")
    [source] = find_images([spec.images[0]], recursive=False)
    pixels = plain.decode(source).prepared.pixel_values
    return torch.from_numpy(np.stack([pixels] * spec.batch_size))


def peak_mib() -> float | None:
    """The most memory that this process has held, in MiB; None where it cannot be told."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024


def device_peak_mib() -> float | None:
    """The most memory of a GPU that this process has held for tensors, in MiB; None without one."""
    if not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / 2**20


def main() -> int:
    """Answer commands until standard input ends."""
    values = json.loads(sys.argv[1])
    if isinstance(values["size"], list):
        values["size"] = tuple(values["size"])
    spec = Spec(**values)
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    logging.disable(logging.WARNING)

    def answer(**facts: Any) -> None:
        peaks = {"peak_mib": peak_mib(), "device_peak_mib": device_peak_mib()}
        print(json.dumps({**facts, **peaks}), file=answers, flush=True)

    started = time.perf_counter()
    try:
        contender = CONTENDERS.get(spec.name, Ours)(spec)
        contender.forward()
        facts = contender.facts() if isinstance(contender, Ours) else {}
        answer(ready_s=time.perf_counter() - started, **facts)
        for line in sys.stdin:
            command = line.strip()
            started = time.perf_counter()
            found: Mapping[str, Any] = {}
            if command == "rate":
                found = {"gflop_per_s": contender.rate()}
            elif command == "accuracy":
                found = contender.accuracy()
            elif command == "profile":
                found = {"kinds": contender.profile()}
            elif command == "photographs":
                found = contender.photographs()
            else:
                contender.forward()
            answer(elapsed_s=time.perf_counter() - started, **found)
    except (ModelError, UsageError, ImageError) as error:
        answer(error=str(error))
        return 1
    except Exception as error:
        if spec.name not in PEERS:
            raise
        # Another program's: what it says is all that is known.
        said = next(iter(str(error).strip().splitlines()), "")
        answer(error=f"--against {spec.name}: it does not run this model: {said or repr(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
