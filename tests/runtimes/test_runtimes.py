"""Other runtimes give PyTorch's numbers through the same loop, or fail by name."""

import json
import os
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from prompted import save_prompted
from tiny import draw_blurred, save_both

from dptcli import DPTConfig, DPTForDepthEstimation, DPTImageProcessor
from dptcli.cli import main
from dptcli.cli.predicting.engine import open_for
from dptcli.cli.predicting.outputs import Needs
from dptcli.cli.predicting.request import read_request
from dptcli.cli.predicting.work import content_options
from dptcli.errors import ModelError, UsageError
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, open_pipeline
from dptcli.results.plan import plan_outputs
from dptcli.runtimes import known, opening
from dptcli.runtimes.choice import chosen, write_choice
from dptcli.runtimes.graphs import Graphs
from dptcli.runtimes.network import RuntimeNetwork
from dptcli.runtimes.store import FOLDER_NAME, compiled_in, keep_last, store_for

RUN_HERE = ["openvino", "onnxruntime"]
SHAPES = [(1, 3, 64, 64), (1, 3, 48, 96), (3, 3, 96, 32)]
SWIN = {
    **{"model_type": "swinv2", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4]},
    **{"window_size": 4, "image_size": 64, "patch_size": 4},
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Folders of the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_both(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_blurred(tmp_path_factory.mktemp("seen") / "photos", 2, size=(96, 64))


def open_here(model, runtime, *, task="depth", dtype="float32", **more):
    return open_pipeline(model, task=task, runtime=runtime, dtype=dtype, device="cpu", **more)


def output_of(pipeline, pixels):
    with torch.inference_mode():
        found = pipeline.loaded.model(pixels)
    return (found.predicted_depth if pipeline.loaded.task == "depth" else found.logits).numpy()


def predicted(pipeline, photos):
    jobs = plan_outputs(find_images([photos]), str(photos.parent / "out")).jobs
    found = {}

    def save(job, prediction):
        found[job.source.path.name] = prediction.values
        return {}

    report = pipeline.run(jobs, save=save)
    return found, report


@pytest.mark.parametrize("task", ["depth", "segment"])
@pytest.mark.parametrize("runtime", RUN_HERE)
def test_a_runtime_gives_torchs_numbers_at_any_size_and_batch(models, runtime, task):
    plain = open_here(models[task], "torch", task=task, optimized=False)
    other = open_here(models[task], runtime, task=task)
    generator = torch.Generator().manual_seed(1)
    for shape in SHAPES:
        pixels = torch.randn(*shape, generator=generator)
        ours, theirs = output_of(plain, pixels), output_of(other, pixels)
        assert theirs.shape == ours.shape
        assert theirs.dtype == np.float32
        # The stated tolerance is 1e-3; these models are so small that far less is seen.
        assert np.abs(theirs - ours).max() <= 1e-5 * np.abs(ours).max()
    # One by one: an image's numbers do not depend on what goes with it.
    assert (output_of(other, pixels)[1:2] == output_of(other, pixels[1:2])).all()
    # The graph is dynamic, so one compilation serves all sizes.
    compiled = store_for(models[task], task) / "compiled"
    assert len([*compiled.glob(f"{runtime}-*")]) == 1


@pytest.mark.parametrize("runtime", RUN_HERE)
def test_what_was_made_once_is_used_again_without_the_weights(models, runtime, monkeypatch):
    expected = output_of(open_here(models["depth"], runtime), torch.ones(1, 3, 64, 64))
    load = opening.load_model

    def light(*words, with_weights=True, **wanted):
        assert not with_weights, "the weights were read again"
        return load(*words, with_weights=False, **wanted)

    monkeypatch.setattr(opening, "load_model", light)
    again = open_here(models["depth"], runtime)
    assert (output_of(again, torch.ones(1, 3, 64, 64)) == expected).all()
    assert again.loaded.runtime.startswith(f"{runtime} ")


def test_a_graph_that_knows_one_size_is_made_for_each(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DPTForDepthEstimation(
            DPTConfig(
                backbone_config=SWIN, neck_hidden_sizes=[8, 16, 32, 64], fusion_hidden_size=16
            )
        )
    model.save_pretrained(tmp_path / "swin")
    DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "swin")
    pipeline = open_here(tmp_path / "swin", "onnxruntime")
    for hw in ((64, 64), (64, 96)):
        pixels = torch.randn(1, 3, *hw, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            ours = model.eval()(pixels).predicted_depth.numpy()
        theirs = output_of(pipeline, pixels)
        assert np.abs(theirs - ours).max() <= 1e-4 * np.abs(ours).max()
    store = store_for(tmp_path / "swin", "depth")
    assert {path.name.partition("-")[0] for path in store.glob("*.onnx")} == {"any", "64x96"}
    with pytest.raises(ModelError, match="multiples of 32"):
        output_of(pipeline, torch.zeros(1, 3, 64, 80))


def test_where_the_models_folder_cannot_be_written_the_users_cache_is(tmp_path, models):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in models["depth"].glob("*.*"):
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / FOLDER_NAME).touch()  # as little to be made as on a disk that only reads
    assert store_for(folder, "depth").is_relative_to(tmp_path / "cache")
    (tmp_path / "cache" / "dpt" / "runtimes").rename(tmp_path / "away")
    (tmp_path / "cache" / "dpt" / "runtimes").touch()
    with pytest.raises(ModelError, match="XDG_CACHE_HOME"):
        store_for(folder, "depth")


def test_other_weights_in_the_same_folder_are_another_model(tmp_path, models):
    for path in models["depth"].glob("*.*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    before = store_for(tmp_path, "depth")
    other = DPTForDepthEstimation.from_pretrained(tmp_path)
    with torch.no_grad():
        other.head.head[4].bias.add_(1)
    other.save_pretrained(tmp_path)
    assert store_for(tmp_path, "depth") != before
    # One folder may hold a model for each task.
    assert store_for(tmp_path, "depth") != store_for(tmp_path, "segment")


def test_of_what_is_kept_only_the_last_used_stay(tmp_path):
    for number in range(12):
        folder = compiled_in(tmp_path, f"kept-{number}")
        os.utime(folder, (number, number))
    kept = {path.name for path in (tmp_path / "compiled").iterdir()}
    assert kept == {f"kept-{number}" for number in range(4, 12)}
    keep_last(tmp_path / "compiled", tmp_path / "compiled" / "kept-4", most=2)
    kept = {path.name for path in (tmp_path / "compiled").iterdir()}
    assert kept == {"kept-4", "kept-11"}


def ends_at(pipeline, most, error):
    """Let the compiled network fail above so many pixels an image."""
    network = pipeline.loaded.model
    session = network.session_for((64, 64))
    [name] = network._sessions

    def run(pixels):
        if pixels.shape[-1] * pixels.shape[-2] > most:
            raise error
        return session(pixels)

    network._sessions[name] = run


@pytest.mark.parametrize("error", [RuntimeError("Check failed: bad allocation"), MemoryError()])
def test_where_a_runtimes_memory_ends_tiles_are_taken(models, photos, caplog, error):
    pipeline = open_here(models["depth"], "openvino", size=(240, 320))
    ends_at(pipeline, 180 * 180, error)
    found, report = predicted(pipeline, photos)
    assert not report.failed
    assert len(found) == 2
    assert "tiles" in caplog.text


def test_any_other_failure_ends_the_run_and_names_the_runtime(models, photos):
    pipeline = open_here(models["depth"], "onnxruntime")
    ends_at(pipeline, 0, RuntimeError("Non-zero status\ncode returned"))
    with pytest.raises(ModelError, match=r"onnxruntime .*CPU.* fails: Non-zero status code"):
        predicted(pipeline, photos)


def test_tiles_asked_for_are_torchs(models, photos):
    results = [
        predicted(open_here(models["depth"], name, options=Options(tile=48)), photos)[0]
        for name in ("torch", "openvino")
    ]
    for name, values in results[0].items():
        np.testing.assert_allclose(results[1][name], values, rtol=1e-4, atol=1e-4)


class Wrong:
    """A backend whose results are off by a hundredth."""

    name, title, key, dtype = "wrong 1.0 CPU", "Wrong", "wrong", torch.float32

    def __init__(self, right):
        self.right = right

    def compile(self, graph, folder):
        session = self.right.compile(graph, folder)
        return lambda pixels: session(pixels) * 1.01


def test_a_compilation_that_gives_other_numbers_is_refused(models, tmp_path):
    right = open_here(models["depth"], "onnxruntime").loaded.model
    graphs = Graphs(tmp_path, right.graphs.plain)
    network = RuntimeNetwork(right.config, "depth", graphs, Wrong(right.backend))
    with pytest.raises(ModelError, match=r"wrong 1\.0 CPU differs .* --runtime torch"):
        network(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ModelError, match="differs"):  # and is not believed the next time
        network(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("name", known.RUNTIMES)
def test_what_is_not_installed_names_its_extra(monkeypatch, name):
    monkeypatch.setattr(known.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=rf"pip install 'dptcli\[{name}\]'"):
        known.check_runtime(name, device="auto", dtype="auto", optimize=True)


@pytest.mark.skipif(
    "TensorrtExecutionProvider" in onnxruntime.get_available_providers(), reason="it is here"
)
def test_a_provider_that_is_absent_is_named(models):
    with pytest.raises(UsageError, match=r"no TensorrtExecutionProvider, only .*CPUExecution"):
        open_pipeline(models["depth"], task="depth", runtime="tensorrt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runtime", "tensorflow"], "--runtime 'tensorflow' must be one of auto, torch,"),
        (["--device", "gpu"], "cuda:N or mps, unless --runtime is openvino"),
        (["--runtime", "openvino", "--device", "cuda"], "takes auto, cpu, gpu, npu"),
        (["--runtime", "openvino", "--device", "npu"], "OpenVINO finds"),
        (["--runtime", "openvino", "--dtype", "int8"], "--dtype 'int8'"),
        (["--runtime", "onnxruntime", "--dtype", "bfloat16"], "takes auto, float32"),
        (["--runtime", "openvino", "--no-optimize"], "--no-optimize is PyTorch's"),
        (["--runtime", "openvino", "--with-segments"], "--with-segments is PyTorch's"),
    ],
)
def test_what_a_runtime_cannot_do_is_said_in_one_line(
    models, photos, tmp_path, capsys, words, said
):
    out = str(tmp_path / "out")
    assert main(["depth", str(photos), "-o", out, "-m", str(models["depth"]), *words]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "out" / "0.png").exists()


def test_a_model_that_takes_a_prompt_is_refused(tmp_path):
    model = save_prompted(tmp_path / "prompted")
    with pytest.raises(ModelError, match=r"sensor's map .* take --runtime torch"):
        open_here(model, "onnxruntime", prompted=True)


def test_bfloat16_is_refused_where_the_device_has_none(models):
    from openvino import Core

    able = Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in able:
        pipeline = open_here(models["depth"], "openvino", dtype="bfloat16")
        assert pipeline.loaded.dtype is torch.bfloat16
        output_of(pipeline, torch.zeros(1, 3, 64, 64))  # compared with PyTorch on its way
        return
    with pytest.raises(UsageError, match="'bfloat16': OpenVINO's CPU here has no"):
        open_here(models["depth"], "openvino", dtype="bfloat16")


def depth(photos, out, model, *words):
    given = ["depth", str(photos), "-o", str(out), "-m", str(model), "--format", "npy"]
    return main([*given, "--dtype", "float32", *words])


def test_a_run_goes_on_with_its_own_runtime_and_another_ones_results_are_made_anew(
    models, photos, tmp_path, capsys
):
    out = tmp_path / "out"
    for runtime, summary in (
        ("torch", "2 done"),
        ("onnxruntime", "2 done"),
        ("onnxruntime", "0 done, 2 skipped"),
        ("torch", "2 done"),
        ("auto", "0 done, 2 skipped"),
    ):
        assert depth(photos, out, models["depth"], "--runtime", runtime) == 0
        assert summary in capsys.readouterr().err
        facts = json.loads((out / "00.json").read_text())
        named = "torch" if runtime == "auto" else runtime
        assert facts["runtime"].partition(" ")[0] == named


def test_results_from_before_there_were_runtimes_are_torchs():
    options = {"model": "m", "size": "64"}
    assert content_options({**options, "runtime": "torch"}) == content_options(options)
    assert content_options({**options, "runtime": "openvino"}) != content_options(options)


OPTIONS = {"device": "auto", "dtype": "float32", "size": None}


def test_auto_is_torch_until_a_benchmark_found_another_one_faster_here(
    models, photos, tmp_path, capsys, monkeypatch
):
    model = str(models["depth"])
    assert chosen(model, "depth", **OPTIONS) == "torch"
    write_choice(model, "depth", "onnxruntime", {}, **OPTIONS)
    assert chosen(model, "depth", **OPTIONS) == "onnxruntime"
    assert depth(photos, tmp_path / "out", model) == 0
    assert "ONNX Runtime, which dpt bench --choose found faster here" in capsys.readouterr().err
    facts = json.loads((tmp_path / "out" / "00.json").read_text())
    assert facts["runtime"].startswith("onnxruntime")
    # Other weights, another size or dtype, another processor, another version: nobody compared.
    assert chosen(str(models["segment"]), "segment", **OPTIONS) == "torch"
    assert chosen(model, "depth", **{**OPTIONS, "size": (96, 96)}) == "torch"
    assert chosen(model, "depth", **{**OPTIONS, "dtype": "auto"}) == "torch"
    with monkeypatch.context() as patch:
        patch.setattr("dptcli.runtimes.choice.processor_name", lambda: "another")
        assert chosen(model, "depth", **OPTIONS) == "torch"
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", lambda _name: "99.0")
        assert chosen(model, "depth", **OPTIONS) == "torch"
    monkeypatch.setattr(known.importlib.util, "find_spec", lambda _name: None)
    assert chosen(model, "depth", **OPTIONS) == "torch"


def test_findings_that_cannot_be_read_are_none(models):
    path = write_choice(str(models["depth"]), "depth", "openvino", {}, **OPTIONS)
    for broken in ("", "[1]", '{"a": 1}'):
        path.write_text(broken)
        assert chosen(str(models["depth"]), "depth", **OPTIONS) == "torch"


def given(model, photos, **changes):
    """What a command gives, of its options; the others as they are by themselves."""
    import inspect

    from dptcli.cli.depth import depth as command

    usual = {
        name: parameter.default for name, parameter in inspect.signature(command).parameters.items()
    }
    usual.update({"inputs": [str(photos)], "output": "out", "model": str(model)})
    return {**usual, **changes}


def test_a_cluster_gets_the_runtime_by_name_and_auto_means_torch_there(models, photos):
    write_choice(str(models["depth"]), "depth", "onnxruntime", {}, **OPTIONS)
    local = read_request("depth", given(models["depth"], photos, dtype="float32"))
    assert local.runtime == "onnxruntime"
    ray = read_request("depth", given(models["depth"], photos, dtype="float32", engine="ray"))
    assert ray.runtime == "torch"
    clip = given(models["depth"], photos, dtype="float32", sequence=True)
    assert read_request("depth", clip).runtime == "torch"
    named = given(models["depth"], photos, engine="ray", runtime="openvino")
    pipeline = open_for(read_request("depth", named), Needs())  # what a worker calls
    assert pipeline.loaded.runtime.startswith("openvino ")
    shell = replace(pipeline.loaded, model=None)
    assert shell.pixel_dtype is torch.float32
