"""What the processor can do is known in one place, can be lowered, and decides no plain model."""

import ast
from dataclasses import replace

import pytest
import torch
from optimizable import CPU
from places import ROOT, SAMPLES
from process import run_dpt
from tiny import save_tiny

from dptcli import DPTForDepthEstimation, load_model
from dptcli.errors import UsageError
from dptcli.fast import capabilities, kernels
from dptcli.fast.capabilities import LEVELS, Processor, processor
from dptcli.fast.int8 import largest_weight
from dptcli.fast.kernels import Kernels, kernels_for
from dptcli.fast.precision import native_dtype
from dptcli.pipeline import open_pipeline


@pytest.fixture
def play(monkeypatch):
    """Play a processor: its level, whether it has VNNI, and whether it is Intel's."""

    def choose(level, *, wide_sums=True, intel=False):
        monkeypatch.delenv("DPT_CPU", raising=False)
        found = Processor(level, wide_sums=wide_sums, intel=intel)
        monkeypatch.setattr(capabilities, "detected", lambda: found)

    return choose


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {task: save_tiny(root / task, task=task) for task in ("depth", "segment")}


@pytest.mark.parametrize("own", LEVELS)
@pytest.mark.parametrize("wanted", LEVELS)
def test_the_variable_lowers_and_never_raises(play, monkeypatch, own, wanted):
    play(own)
    monkeypatch.setenv("DPT_CPU", wanted)
    assert processor().level == min(own, wanted, key=LEVELS.index)


@pytest.mark.parametrize("value", ["AVX2", "amx", "avx512,bfloat16"])
def test_a_level_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv("DPT_CPU", value)
    with pytest.raises(UsageError, match=f"DPT_CPU '{value}' must be default, avx2, avx512 or bf"):
        processor()


def test_a_command_says_so_in_one_line(tmp_path):
    done = run_dpt("depth", SAMPLES / "city.jpg", "-o", tmp_path / "out.png", DPT_CPU="avx1")
    assert done.returncode == 2
    assert done.stderr == "dpt: DPT_CPU 'avx1' must be default, avx2, avx512 or bfloat16\n"


def test_without_vnni_the_weights_of_int8_give_a_bit(play, monkeypatch):
    play("avx512", wide_sums=False)
    assert largest_weight() == 64
    play("bfloat16")
    assert largest_weight() == 127
    monkeypatch.setenv("DPT_CPU", "avx512")
    assert largest_weight() == 127
    monkeypatch.setenv("DPT_CPU", "avx2")
    assert largest_weight() == 64


def test_each_level_has_its_forms(play, monkeypatch):
    # PyTorch's own answer is of the machine that the tests run on.
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    found = {}
    for level in LEVELS:
        play(level)
        found[level] = [kernels_for(CPU, dtype) for dtype in (torch.float32, torch.bfloat16)]
    plain = Kernels()
    assert found["default"] == [plain, plain]
    assert found["avx2"] == [Kernels(linear="conv1x1", conv=True, winograd=True), plain]
    wide = Kernels(linear="conv1x1", conv=True)
    narrow = Kernels(linear="packed", fuse_gelu=True, conv=True, few_heads=True)
    assert found["avx512"] == found["bfloat16"] == [wide, narrow]
    play("bfloat16", intel=True)
    assert kernels_for(CPU, torch.bfloat16) == replace(narrow, few_heads=False)


@pytest.mark.parametrize(
    ("level", "intel", "mkl", "linear"),
    [
        ("avx512", True, True, "mkl"),
        ("bfloat16", True, True, "mkl"),
        ("avx512", False, True, "conv1x1"),
        ("avx512", True, False, "conv1x1"),
        ("avx2", True, True, "conv1x1"),
    ],
)
def test_products_are_left_to_mkl_where_it_is_at_home(play, monkeypatch, level, intel, mkl, linear):
    play(level, intel=intel)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    monkeypatch.setattr(torch.ops.mkl, "_mkl_linear", None, raising=False)
    monkeypatch.setattr(kernels, "_has_packed_operators", lambda: True)
    found = kernels_for(CPU, torch.float32)
    assert (found.linear, found.conv) == (linear, True)


def test_a_lesser_level_does_not_change_who_made_the_processor(play, monkeypatch):
    play("bfloat16", intel=True)
    monkeypatch.setenv("DPT_CPU", "avx512")
    assert capabilities.processor() == Processor("avx512", wide_sums=True, intel=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("task", ["depth", "segment"])
def test_a_plain_model_is_float32_on_every_processor(play, folders, level, task):
    play(level)
    loaded = load_model(folders[task], task=task, device="cpu")
    assert loaded.dtype is torch.float32
    assert {tensor.dtype for tensor in loaded.model.parameters()} == {torch.float32}
    loaded.model(torch.zeros(1, 3, 32, 32))


def test_a_class_gives_what_the_file_has_on_every_processor(play, folders):
    play("bfloat16")
    assert DPTForDepthEstimation.from_pretrained(folders["depth"]).dtype is torch.float32


def test_only_what_predicts_takes_the_fast_dtype(play, folders):
    folder = folders["depth"]
    for level, fast in (("avx512", torch.float32), ("bfloat16", torch.bfloat16)):
        play(level)
        assert native_dtype(CPU) is fast
        assert load_model(folder, device="cpu", dtype="auto").dtype is fast
        assert load_model(folder, device="cpu", optimized=True).dtype is fast
        assert open_pipeline(folder, task="depth", device="cpu").loaded.dtype is fast


@pytest.mark.processor
@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("task", ["depth", "segment"])
def test_a_narrow_model_takes_and_gives_float32(folders, task, optimized):
    loaded = load_model(folders[task], device="cpu", dtype="bfloat16", optimized=optimized)
    assert loaded.dtype is torch.bfloat16
    pixels = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        found, again = (loaded.model(x)[0] for x in (pixels, pixels.bfloat16()))
    assert found.dtype is torch.float32
    assert torch.equal(found, again)


ONCE = {  # over dptcli.fast, and yet not repeated as each lesser processor
    "tests/fast/test_cuda.py": "it needs a GPU",
    "tests/benchmark/test_bench.py": "which attentions have a form is the same on all",
    "tests/benchmark/test_profile.py": "it counts what it chose itself",
}


def test_what_the_processor_decides_is_repeated_as_each_lesser_one():
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        names = {node.module or "" for node in ast.walk(ast.parse(text)) if is_import(node)}
        if any(name == "optimizable" or name.startswith("dptcli.fast") for name in names):
            repeated = "mark.processor" in text
            place = str(path.relative_to(ROOT))
            assert repeated != (place in ONCE), f"{place}: mark its tests `processor`, or say why"


def is_import(node):
    return isinstance(node, ast.ImportFrom)
