"""A tiny model learns within seconds, and a run that is cut short ends the same."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_training import OPTIONS, KilledError, run, tiny
from written_pairs import write_pairs

from dptcli.errors import UsageError
from dptcli.training.batches import Source, TrainOptions
from dptcli.training.data import Example, draw_shape, read_examples
from dptcli.training.features import FeatureCache
from dptcli.training.loop import Progress, learning_rate_at, train

# For what ends the same to the bit, or does not: that shows within a few steps.
SHORT = dataclasses.replace(OPTIONS, steps=18)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Example]:
    return read_examples(write_pairs(tmp_path, count=4), task="depth")[0]


@pytest.mark.parametrize("task", ["depth", "segment"])
@pytest.mark.parametrize("backbone_rate", [0.0, 1e-4], ids=["frozen", "full"])
def test_the_loss_falls(
    pairs: list[Example], tmp_path: Path, task: str, backbone_rate: float
) -> None:
    model = tiny(task)
    options = dataclasses.replace(OPTIONS, backbone_rate=backbone_rate)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = run(model, pairs, tmp_path / "run", options)
    losses = [progress.loss for progress in seen]
    assert sum(losses[-12:]) < 0.85 * sum(losses[:12])
    validations = [progress.validation for progress in seen if progress.validation is not None]
    assert len(validations) == 4
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith("head") for name in changed)
    assert any(name.startswith("backbone") for name in changed) == (backbone_rate > 0)


@pytest.mark.parametrize("kind", ["metric", "depth"])
def test_models_of_depth_learn_too(pairs: list[Example], tmp_path: Path, kind: str) -> None:
    model = tiny(depth_estimation_type=kind, max_depth=10.0)
    losses = [progress.loss for progress in run(model, pairs, tmp_path / "run", OPTIONS)]
    assert sum(losses[-12:]) < sum(losses[:12])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_learns_and_resumes_to_the_same_weights(
    pairs: list[Example], tmp_path: Path, dtype: str
) -> None:
    options = dataclasses.replace(OPTIONS, dtype=dtype, steps=16, checkpoint_every=8)
    whole, cut = tiny(), tiny()
    losses = [progress.loss for progress in run(whole, pairs, tmp_path / "whole", options)]
    assert sum(losses[-4:]) < sum(losses[:4])

    def kill(progress: Progress) -> None:
        if progress.step == 9:
            raise KilledError

    with pytest.raises(KilledError):
        train(cut, pairs[:3], tmp_path / "cut", options=options, report=kill)
    resumed = tiny()
    assert run(resumed, pairs, tmp_path / "cut", options)[0].step == 9
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("task", ["depth", "segment"])
def test_a_killed_run_resumes_to_the_same_weights(
    pairs: list[Example], tmp_path: Path, task: str
) -> None:
    whole = tiny(task)
    run(whole, pairs, tmp_path / "whole", SHORT)

    def kill(progress: Progress) -> None:
        if progress.step == 14:  # after the checkpoint of step 12
            raise KilledError

    cut = tiny(task)
    held_out = pairs[3:]  # the best weights may be those from before the kill
    with pytest.raises(KilledError):
        train(cut, pairs[:3], tmp_path / "cut", options=SHORT, held_out=held_out, report=kill)
    resumed = tiny(task)
    steps = [progress.step for progress in run(resumed, pairs, tmp_path / "cut", SHORT)]
    assert steps[0] == 13
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_cached_features_change_nothing(pairs: list[Example], tmp_path: Path) -> None:
    kept, drawn = tiny(), tiny()
    run(kept, pairs, tmp_path / "kept", SHORT)
    run(drawn, pairs, tmp_path / "drawn", dataclasses.replace(SHORT, cache_gb=0.0))
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(drawn.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_features_in_a_folder_change_nothing_and_serve_later_runs(
    pairs: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, first, again = tiny(), tiny(), tiny()
    train(memory, pairs[:3], tmp_path / "memory", options=SHORT)
    cache = FeatureCache(tmp_path / "features")
    assert Source(first, pairs[:3], SHORT, cache=cache).fill() == 6
    num_files = len(list((tmp_path / "features").iterdir()))
    train(first, pairs[:3], tmp_path / "first", options=SHORT, cache=cache)
    assert num_files == len(list((tmp_path / "features").iterdir())) <= 6

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a feature was computed anew")

    monkeypatch.setattr(again.backbone, "features", refuse)
    train(again, pairs[:3], tmp_path / "again", options=SHORT, cache=cache)
    for name, value in memory.state_dict().items():
        for model in (first, again):
            torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0, msg=name)
    other = dataclasses.replace(SHORT, seed=1)
    with pytest.raises(AssertionError, match="anew"):
        train(again, pairs[:3], tmp_path / "other", options=other, cache=cache)


def test_a_coarse_step_leaves_the_fine_layers_and_lowers_the_coarse_loss(
    pairs: list[Example], tmp_path: Path
) -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = dataclasses.replace(OPTIONS, levels=(1, 2), weight_decay=0.0)
    seen = run(model, pairs, tmp_path / "run", options)
    losses = [progress.loss for progress in seen]
    assert sum(losses[-12:]) < 0.9 * sum(losses[:12])
    state = model.state_dict()
    changed = {name for name, value in state.items() if not value.equal(before[name])}
    assert not any(name.startswith("neck.fusion_stage.layers.3") for name in changed)
    for part in ("neck.fusion_stage.layers.1", "neck.fusion_stage.layers.2", "head"):
        assert any(name.startswith(part) for name in changed), part
    # Validation is of what is trained: each held-out example once for each level.
    check = Source(model, pairs[3:], options, augment=False)
    assert [batch.level for batch in check.batches()] == [1, 2]


def test_a_fused_map_alone_equals_that_of_the_whole_neck() -> None:
    model = tiny().eval()
    maps = model.features(torch.rand(1, 3, 28, 42)).maps
    whole = model.neck(maps)
    for count in (1, 2, 3, 4):
        part = model.neck(maps, num_fused=count)
        assert len(part) == count
        torch.testing.assert_close(part[-1], whole[count - 1])


def test_crops_come_rather_in_the_aspect_of_their_photograph(tmp_path: Path) -> None:
    wide = read_examples(write_pairs(tmp_path, count=1, size=(80, 20)), task="depth")[0][0]
    shapes = ((28, 28), (28, 112))
    drawn = [draw_shape(wide, shapes, seed=0, variant=variant) for variant in range(200)]
    assert drawn == [draw_shape(wide, shapes, seed=0, variant=variant) for variant in range(200)]
    assert 185 < sum(drawn) < 200
    assert draw_shape(wide, shapes, seed=None, variant=0) == 1


def test_training_stops_when_patience_is_out_and_keeps_the_best(
    pairs: list[Example], tmp_path: Path
) -> None:
    options = dataclasses.replace(
        OPTIONS, steps=500, learning_rate=1e-9, average=0.0, validate_every=2, patience=3
    )
    seen = run(tiny(), pairs, tmp_path / "run", options)
    assert len(seen) < 500
    losses = [progress.validation for progress in seen if progress.validation is not None]
    assert len(losses) - 1 - losses.index(min(losses)) == 3
    again = run(tiny(), pairs, tmp_path / "run", options)
    assert again == []  # the finished run is not taken up again


def test_a_checkpoint_of_other_options_is_refused(pairs: list[Example], tmp_path: Path) -> None:
    short = dataclasses.replace(OPTIONS, steps=4)
    run(tiny(), pairs, tmp_path / "run", short)
    with pytest.raises(UsageError, match="learning_rate"):
        run(tiny(), pairs, tmp_path / "run", dataclasses.replace(short, learning_rate=1.0))


def test_no_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        train(tiny(), [], tmp_path, options=OPTIONS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("average", 1.0),
        ("accumulate", 0),
        ("optimizer", "sgd"),
    ],
)
def test_wrong_options_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field):
        dataclasses.replace(OPTIONS, **{field: value})


def test_the_rate_warms_up_and_falls() -> None:
    options = TrainOptions(steps=100, warmup=10)
    rates = [learning_rate_at(step, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 0.02
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_first_blocks_may_keep_their_weights(pairs: list[Example], tmp_path: Path) -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = dataclasses.replace(OPTIONS, backbone_rate=1e-3, backbone_from=1, steps=4)
    run(model, pairs, tmp_path / "run", options)
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    learning = {name for name in changed if name.startswith("backbone")}
    assert any(name.startswith("backbone.encoder.layer.1.") for name in learning)
    kept = ("backbone.embeddings.", "backbone.encoder.layer.0.")
    assert not any(name.startswith(kept) for name in learning)


def test_more_kept_blocks_than_there_are_is_refused(pairs: list[Example], tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, backbone_rate=1e-3, backbone_from=99)
    with pytest.raises(UsageError, match="backbone_from: 99 must be below"):
        run(tiny(), pairs, tmp_path / "run", options)
