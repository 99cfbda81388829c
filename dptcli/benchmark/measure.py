"""A benchmark: contenders in turns, medians of what they took, ratios of pairs."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from dptcli.benchmark.contenders import Spec
from dptcli.errors import ModelError
from dptcli.running.machine import processor_name, usable_cores

Told = Callable[[str], None]
_PEAKS = ("peak_mib", "device_peak_mib")
_OF_EVERY_ANSWER = ("elapsed_s", *_PEAKS)


@dataclass(frozen=True)
class Row:
    """One contender's figures; lists hold a value for each round, in order.

    forward_s: a batch through the network. photographs_s: all photographs, from file to file.
    device_peak_mib: of a GPU's memory, with the photographs.
    """

    name: str
    ready_s: float
    forward_s: list[float] = field(default_factory=list)
    photographs_s: list[float] = field(default_factory=list)
    stage_s: list[Mapping[str, float]] = field(default_factory=list)
    peak_mib: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    device_peak_mib: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """What was measured: ours first, then the others in the order they were asked for.

    accuracy: ours against the plain model in float32, where ours is not float32 itself. profile:
    seconds of a batch through our network by kind of operation, where they were asked for.
    """

    rows: tuple[Row, ...]
    num_images: int
    batch_size: int
    gflop_per_s: float
    machine: Mapping[str, Any]
    accuracy: Mapping[str, float] = field(default_factory=dict)
    profile: Mapping[str, float] = field(default_factory=dict)

    def ratio(self, row: Row, what: str) -> float | None:
        """How many times as long as ours a contender took: the median of the rounds' ratios."""
        pairs = list(zip(getattr(row, what), getattr(self.rows[0], what), strict=False))
        return median(theirs / ours for theirs, ours in pairs) if pairs else None

    @property
    def network_gflop_per_s(self) -> float | None:
        """The arithmetic of the plain network by the time that ours takes; None: not known."""
        ours = self.rows[0]
        if ours.facts["gflop"] is None:
            return None
        return float(ours.facts["gflop"]) * self.batch_size / median(ours.forward_s)

    def stages(self) -> dict[str, float]:
        """Busy seconds a photograph by stage, medians of the rounds; "load" once."""
        rounds = self.rows[0].stage_s
        names = rounds[0].keys() if rounds else ()
        return {
            name: median(found[name] for found in rounds)
            / (1 if name == "load" else self.num_images)
            for name in names
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "machine": dict(self.machine),
            "images": self.num_images,
            "batch_size": self.batch_size,
            "matrix_gflop_per_s": self.gflop_per_s,
            "network_gflop_per_s": self.network_gflop_per_s,
            "stages_s_per_image": self.stages(),
            "accuracy": dict(self.accuracy),
            "profile_s": dict(self.profile),
            "contenders": [
                {
                    "name": row.name,
                    **row.facts,
                    "ready_s": row.ready_s,
                    "forward_s": row.forward_s,
                    "photographs_s": row.photographs_s,
                    "forward_ratio": self.ratio(row, "forward_s"),
                    "photographs_ratio": self.ratio(row, "photographs_s"),
                    "peak_mib": row.peak_mib,
                    "device_peak_mib": row.device_peak_mib,
                }
                for row in self.rows
            ],
        }


class _Process:
    """A contender in its process."""

    def __init__(self, spec: Spec) -> None:
        self.name = spec.name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dptcli.benchmark.contenders", spec.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.first = self._answer()

    def ask(self, command: str) -> dict[str, Any]:
        """Give a command and wait for the answer. Raises ModelError."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ModelError(
                f"bench: {self.name} ended without an answer (exit code {self._process.wait()}); "
                "its process may have run out of memory"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def run_benchmark(
    specs: Sequence[Spec], *, num_rounds: int, told: Told, profile: bool = False
) -> Benchmark:
    """Let contenders take turns, ours first in every round. told: hears what is under way.

    profile: ask where our network's time goes, too. Raises ModelError when one cannot run.
    """
    processes: list[_Process] = []
    try:
        rows = []
        for spec in specs:
            told(f"loading {spec.name}")
            processes.append(_Process(spec))
            facts = dict(processes[-1].first)
            facts = {name: facts[name] for name in facts if name not in _OF_EVERY_ANSWER}
            rows.append(Row(spec.name, facts.pop("ready_s"), facts=facts))
        rates = []
        for index in range(num_rounds):
            told(f"network, round {index + 1} of {num_rounds}")
            rates.append(processes[0].ask("rate")["gflop_per_s"])
            for process, row in zip(processes, rows, strict=True):
                row.forward_s.append(process.ask("forward")["elapsed_s"])
        peaks: dict[str, dict[str, Any]] = {}
        for index in range(num_rounds):
            for process, row in zip(processes, rows, strict=True):
                if process.name in ("openvino", "onnxruntime"):
                    continue
                told(f"photographs, round {index + 1} of {num_rounds}: {process.name}")
                found = process.ask("photographs")
                row.photographs_s.append(found["elapsed_s"])
                peaks[row.name] = {name: found[name] for name in _PEAKS}
                if "stage_s" in found:
                    row.stage_s.append(found["stage_s"])
        accuracy: dict[str, float] = {}
        if rows[0].facts["dtype"] != "float32":
            told("accuracy")
            answer = processes[0].ask("accuracy")
            accuracy = {name: answer[name] for name in answer if name not in _OF_EVERY_ANSWER}
        for spec, process, row in zip(specs, processes, rows, strict=True):
            if spec.runtime != "torch":
                told(f"accuracy: {row.name}")
                answer = process.ask("accuracy")
                apart = {name: answer[name] for name in answer if name not in _OF_EVERY_ANSWER}
                peaks[row.name]["facts"] = {**row.facts, "accuracy": apart}
        kinds: dict[str, float] = {}
        if profile:
            told("profile")
            kinds = processes[0].ask("profile")["kinds"]
        return Benchmark(
            tuple(replace(row, **peaks.get(row.name, {})) for row in rows),
            profile=kinds,
            num_images=len(specs[0].images),
            batch_size=specs[0].batch_size,
            gflop_per_s=median(rates),
            machine=describe_machine(),
            accuracy=accuracy,
        )
    finally:
        for process in processes:
            process.close()


def describe_machine() -> dict[str, Any]:
    """The processor, its cores and what it can, the system and the versions that count."""
    import torch

    from dptcli.fast.capabilities import processor

    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "capability": processor().level,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
