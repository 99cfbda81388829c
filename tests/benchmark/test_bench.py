"""`dpt bench`: contenders in processes of their own take turns; figures follow from theirs."""

import json
import logging
import sys
from dataclasses import replace

import pytest
from depth_anything_3_nested_folder import save_authors_nested
from PIL import Image
from process import run_dpt
from tiny import save_tiny, save_varied

from dptcli import (
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from dptcli.benchmark import contenders
from dptcli.benchmark.arithmetic import count_gflop, without_weights
from dptcli.benchmark.choose import choose
from dptcli.benchmark.contenders import Ours, Spec
from dptcli.benchmark.measure import Benchmark, Row
from dptcli.benchmark.show import bar_chart, summary
from dptcli.fast.optimize import unjoined_attentions
from dptcli.runtimes.choice import chosen
from dptcli.weights.load import load_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {task: save_tiny(folder / task, task=task) for task in ("depth", "segment")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(2):
        Image.linear_gradient("L").resize((60, 50)).convert("RGB").save(folder / f"{index}.png")
    return folder


def bench(*words):
    return run_dpt("bench", *words)


def spec(model, photos, *, name="dpt", **changes):
    """What a contender of depth runs on the photographs, without a folder for results."""
    images = [str(path) for path in sorted(photos.iterdir())]
    return Spec(name, str(model), "depth", images, "", **changes)


def benchmark(**changes):
    rows = (
        Row("dpt", 1.0, [0.2, 0.1, 0.4], [1.0, 2.0], [{"load": 1.0, "network": 0.6}] * 2, 90.0,
            {"gflop": 30.0, "network_hw": [64, 64], "dtype": "float32", "device": "cpu"}),
        Row("peer", 2.0, [0.4, 0.3, 0.4], [3.0, 4.0], [], 100.0),
    )  # fmt: skip
    values = {"num_images": 2, "batch_size": 1, "gflop_per_s": 300.0}
    machine = {"processor": "a CPU", "cores": 2, "capability": "avx2", "torch": "2.13.0"}
    return Benchmark(rows, machine=machine, **{**values, **changes})


def test_ratios_are_medians_of_pairs():
    found = benchmark()
    assert found.ratio(found.rows[1], "forward_s") == 2.0  # of 2, 3 and 1
    assert found.ratio(found.rows[1], "photographs_s") == 2.5
    assert found.ratio(found.rows[0], "forward_s") == 1.0


def test_stages_are_a_photograph_and_loading_is_once():
    assert benchmark().stages() == {"load": 1.0, "network": 0.3}


def test_the_networks_rate_counts_the_batch():
    assert benchmark(batch_size=4).network_gflop_per_s == pytest.approx(4 * 30 / 0.2)


def test_arithmetic_that_nobody_can_count_is_unknown_and_no_part_of_it_is_told():
    domain = {"n_bins": 12, "min_depth": 1e-3, "max_depth": 10.0}
    config = ZoeDepthConfig(  # which head an image goes through depends on what it shows
        bin_configurations=[{**domain, "name": "rooms"}, {**domain, "name": "streets"}],
        num_patch_transformer_layers=4,
        patch_transformer_hidden_size=128,
        patch_transformer_intermediate_size=40,
        patch_transformer_num_attention_heads=4,
    )
    assert count_gflop(without_weights(config, ZoeDepthForDepthEstimation), (384, 384)) is None
    known = benchmark()
    [ours, peer] = known.rows
    found = replace(
        known,
        rows=(replace(ours, facts={**ours.facts, "gflop": None}), peer),
        machine={**known.machine, "capability": "AVX2", "torch": "2"},
    )
    assert found.to_dict()["network_gflop_per_s"] is None
    assert "network's GFLOP unknown; a matrix product 300 GFLOP/s" in summary(found)
    counted = summary(replace(known, machine=found.machine))
    assert "network 30 GFLOP an image, 150 GFLOP/s; a matrix product 300 (50%)" in counted


def test_the_chart_is_a_png():
    assert bar_chart(benchmark()).startswith(b"\x89PNG")


def test_the_count_of_a_linear_algebra_is_that_of_the_paper():
    config = DPTConfig(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        backbone_out_indices=[2, 5, 8, 11],
        neck_hidden_sizes=[96, 192, 384, 768],
    )
    # 12 blocks of 577 tokens: 2 · 12 · 768² in products and 4 · 577 · 768 in attention a token.
    transformer = 12 * 577 * (24 * 768**2 + 4 * 577 * 768) / 1e9
    plain = without_weights(config, DPTForDepthEstimation)
    found = count_gflop(plain, (384, 384))
    assert transformer < found < 2.2 * transformer
    assert 200 < found < 230  # DPT-base at 384×384
    assert unjoined_attentions(plain) == {}


def test_the_work_of_networks_that_are_joined_by_their_values_is_that_of_both(tmp_path):
    nested = load_model(save_authors_nested(tmp_path), with_weights=False).model
    parts = [count_gflop(part, (56, 84)) for part in (nested.views, nested.metric)]
    assert count_gflop(nested, (56, 84)) == pytest.approx(sum(parts))
    assert unjoined_attentions(nested) == {}


def test_what_has_no_optimised_form_is_named(photos, tmp_path):
    widths = {"hidden_sizes": [8, 16, 40, 32], "decoder_hidden_size": 16}
    model = GLPNForDepthEstimation(GLPNConfig(depths=[1, 2, 1, 1], **widths))
    model.save_pretrained(tmp_path / "glpn")
    GLPNImageProcessor(size=64).save_pretrained(tmp_path / "glpn")
    ours = Ours(spec(tmp_path / "glpn", photos, dtype="float32"))
    found = benchmark()
    row = replace(found.rows[0], facts=ours.facts())
    told = summary(replace(found, rows=(row,)))
    assert "no optimised form yet: ReducedAttention (5 of them)" in told


@pytest.mark.parametrize(("task", "dtype"), [("depth", "float32"), ("segment", "int8")])
def test_the_loop_is_measured_stage_by_stage(models, photos, task, dtype):
    words = ["--task", task, "-i", photos, "--rounds", 2, "--dtype", dtype]
    done = bench(models[task], *words, "--json", "--profile")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    [ours] = found["contenders"]
    assert found["images"] == 2
    if dtype == "float32":
        assert found["accuracy"] == {}  # of which there is nothing to say
    else:
        assert 0.5 < found["accuracy"]["same_labels"] <= 1
    assert ours["dtype"] == dtype
    assert len(ours["forward_s"]) == len(ours["photographs_s"]) == 2
    stages = found["stages_s_per_image"]
    assert set(stages) == {"load", "decode", "preprocess", "network", "postprocess", "write"}
    assert all(spent > 0 for spent in stages.values())
    # Busy seconds of a stage cannot be more than the run's with one thread in each.
    assert stages["network"] * 2 <= max(ours["photographs_s"])
    assert ours["network_hw"] == [64, 64]
    assert ours["peak_mib"] > 50
    assert found["profile_s"]["convolutions"] > 0
    assert found["matrix_gflop_per_s"] > 1


def test_how_far_a_cheaper_dtype_is_off_is_measured_and_told(photos, tmp_path):
    model = save_varied(tmp_path / "model")
    accuracy = Ours(spec(model, photos, dtype="int8")).accuracy()
    assert 0 < accuracy["mean_difference"] <= accuracy["max_difference"] < 0.5
    told = summary(benchmark(accuracy={"mean_difference": 0.0123, "max_difference": 0.04}))
    assert "difference from float32: mean 1.23%, at most 4.0% of the map's range" in told
    told = summary(benchmark(accuracy={"same_labels": 0.987}))
    assert "labels as float32's: 98.70%" in told


def test_others_run_beside_ours_every_runtime_too_and_the_finding_is_kept(
    models, photos, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    chart = tmp_path / "bench.png"
    words = ["-i", photos, "--rounds", 1, "--choose", "--dtype", "float32"]
    peers = ["--against", "transformers,onnxruntime", "--chart", chart]
    done = bench(models["depth"], *words, *peers)
    assert done.returncode == 0, done.stderr
    names = [line.split("│")[1].strip() for line in done.stdout.splitlines() if "│" in line]
    assert {"dpt", "transformers", "onnxruntime"} <= set(names)
    with Image.open(chart) as picture:
        assert picture.width > 300
    assert {path.name for path in photos.iterdir()} == {"0.png", "1.png"}
    for name in ("dpt, openvino", "dpt, onnxruntime", "openvino, float32: mean difference"):
        assert name in done.stdout
    [found] = json.loads((tmp_path / "dpt" / "runtimes.json").read_text()).values()
    assert set(found["forward_ratios"]) >= {"torch", "openvino", "onnxruntime"}
    assert f"--runtime auto is {found['runtime']} for this model" in done.stderr
    options = {"device": "auto", "dtype": "float32", "size": None}
    assert chosen(str(models["depth"]), "depth", **options) == found["runtime"]


def rival(forward_s, photographs_s, **accuracy):
    """A runtime's row beside ours, which takes 0.1 s and 1 s."""
    facts = {"dtype": "float32", "network_hw": [64, 64], "accuracy": accuracy}
    return Row("dpt, openvino", 1.0, [forward_s], [photographs_s], [], 90.0, facts)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (rival(0.06, 0.7, max_difference=1e-6), "openvino"),
        (rival(0.06, 0.7, same_labels=1.0), "openvino"),
        (rival(0.097, 0.98, max_difference=1e-6), "torch"),  # within what runs differ by
        (rival(0.06, 1.1, max_difference=1e-6), "torch"),  # slower from file to file
        (rival(0.06, 0.7, max_difference=1e-2), "torch"),  # fast and wrong
        (rival(0.06, 0.7, max_difference=float("nan")), "torch"),
        (rival(0.06, 0.7, same_labels=0.9), "torch"),
    ],
)
def test_the_fastest_of_those_that_are_right_is_chosen(
    models, tmp_path, monkeypatch, row, expected
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ours = Row("dpt", 1.0, [0.1], [1.0], [], 90.0, {"network_hw": [64, 64]})
    found = replace(benchmark(), rows=(ours, row))
    first = Spec("dpt", str(models["depth"]), "depth", [], "out")
    choice = choose(found, [first, replace(first, name="dpt, openvino", runtime="openvino")])
    assert choice.runtime == expected
    options = {"device": "auto", "dtype": "auto", "size": None}
    assert chosen(str(models["depth"]), "depth", **options) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--choose", "--batch-size", "2"], "--choose"),
        (["--choose", "--no-optimize"], "--choose: there is no other runtime"),
        (["--against", "tensorflow"], "--against 'tensorflow'"),
        (["--rounds", "0"], "--rounds '0'"),
        (["--task", "sleep"], "--task 'sleep'"),
        (["--chart", "a.jpg"], "must end in .png"),
        (["dpt-larg"], "dpt-larg"),
        (["-i", "no-such-folder"], "no-such-folder"),
        (["--batch-size", "auto"], "--batch-size"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(words, said):
    done = bench(*words)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_peer_that_cannot_run_the_model_says_why(models, photos, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    asked = spec(models["depth"], photos, name="onnxruntime", export=str(tmp_path / "a.onnx"))
    monkeypatch.setattr(sys, "argv", ["contenders", asked.to_json()])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back: it turns libraries' words aside
    try:
        assert contenders.main() == 1
    finally:
        logging.disable(logging.NOTSET)
    assert json.loads(capsys.readouterr().out)["error"].startswith(
        "--against onnxruntime: it does not run this model: "
    )
