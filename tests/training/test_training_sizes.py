"""What is taught of a photograph at other sizes, and a run that learns it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from written_pairs import write_pairs

from dptcli.training.batches import TrainOptions
from dptcli.training.builtin_model import FOLDERS, save_backbone, save_builtin
from dptcli.training.loop import CHECKPOINT_NAME, Run
from dptcli.training.size_targets import merge_sizes, open_teachers
from dptcli.training.sizes import Photograph, batches, class_loss, depth_loss, main


def test_a_merged_map_has_the_whole_of_one_and_the_edges_of_the_other() -> None:
    truth = np.full((60, 80), 1.0, np.float32)
    truth[:, 40:] = 3.0
    slope = np.linspace(0, 2, 60, dtype=np.float32)[:, None]
    whole = truth + slope  # and blurred: it sees no edge
    rows = np.pad(whole, ((0, 0), (8, 8)), mode="edge")
    blurred = np.stack([rows[:, k : k + 80] for k in range(17)]).mean(axis=0)
    merged = merge_sizes(truth, 5 * blurred + 2, network_hw=(60, 80))
    step = merged[:, 40] - merged[:, 39]
    # A pixel of the blurred step is a seventeenth of it.
    assert (step > 0.3 * (merged[:, 79] - merged[:, 0])).all()
    # Its rows rise as those of the whole do, as no row of the finer map does.
    below = merged[40:, :20].mean() - merged[:20, :20].mean()
    assert below > 0.1 * (merged[:, 79] - merged[:, 0]).mean()
    assert merged.min() >= 0


def test_a_map_is_merged_with_itself_as_it_is() -> None:
    values = np.random.default_rng(0).random((42, 56), np.float32).cumsum(axis=1)
    merged = merge_sizes(values, 3 * values + 1, network_hw=(42, 56))
    np.testing.assert_allclose(merged, values, rtol=0.02, atol=0.02 * values.max())


def test_the_loss_is_that_of_the_shape_alone_and_none_at_the_target() -> None:
    target = torch.rand(2, 28, 42, generator=torch.Generator().manual_seed(0))
    assert depth_loss(target, target) == 0
    off = target + 0.1
    torch.testing.assert_close(depth_loss(5 * off, 5 * target), depth_loss(off, target))


def test_the_loss_of_classes_is_the_divergence_from_what_is_taught() -> None:
    logits = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    finer = logits.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    taught = logits.softmax(dim=1)
    assert abs(class_loss(finer, taught)) < 1e-6
    certain = torch.zeros(2, 3, 4, 6)
    certain[:, 1] = 1
    wanted = -torch.log_softmax(logits, dim=1)[:, 1].mean()
    torch.testing.assert_close(class_loss(finer, certain), wanted)


def test_a_step_has_its_batch_wherever_a_run_begins() -> None:
    drawn = np.random.default_rng(1)
    sizes = ((28, 42), (28, 42), (42, 28))
    photographs = [
        Photograph(
            drawn.integers(0, 256, (*size, 3), np.uint8),
            drawn.random(size, dtype=np.float32),
            drawn.random((3, size[0] // 2, size[1] // 2)).astype(np.float16),
        )
        for size in sizes
    ]
    options = TrainOptions(steps=6, batch_size=2, seed=3)
    whole = list(batches(photographs, options, first=0))
    later = list(batches(photographs, options, first=4))
    for one, other in zip(whole[4:], later, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert {tuple(pixels.shape[2:]) for pixels, _, _ in whole} <= set(sizes)


@pytest.fixture
def material(tmp_path: Path) -> tuple[Path, Path]:
    """(a folder of sets, a folder of the built-in models) to learn from and with."""
    from dptcli.training.builtin_model import start_model
    from dptcli.weights.catalog import BUILTIN_FOLDER

    sets, models = tmp_path / "sets", tmp_path / "models"
    (sets / "one").mkdir(parents=True)
    write_pairs(sets / "one", count=2)
    for task in FOLDERS:
        (models / FOLDERS[task]).mkdir(parents=True)
    save_backbone(start_model("depth", BUILTIN_FOLDER, seed=0), models)
    for task in FOLDERS:
        save_builtin(start_model(task, models, seed=1), task, models)
    return sets, models


def words(material: tuple[Path, Path], work: Path, *, steps: int) -> list[str]:
    sets, models = material
    return [
        *(str(sets), "--builtin", str(models), "--work", str(work), "--size", "42"),
        *("--sizes", "28", "--class-sizes", "56", "--batch-size", "2"),
        *("--steps", str(steps), "--threads", "1"),
    ]


def test_a_run_comes_nearer_to_what_is_taught(
    material: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = ["--learning-rate", "1e-3", "--backbone-rate", "1e-5", "--average", "0"]
    lost = []
    for steps in (1, 40):
        assert main([*words(material, tmp_path / f"{steps}", steps=steps), *rates]) == 0
        lost.append(float(capsys.readouterr().out.split()[-1]))
    assert lost[1] < 0.8 * lost[0]
    assert (tmp_path / "40" / CHECKPOINT_NAME).is_file()


def test_a_run_that_is_killed_ends_the_same_and_no_other_run_goes_on_from_it(
    material: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sets, models = material
    shutil.copytree(models, tmp_path / "other")
    often = ["--checkpoint-every", "1"]
    assert main([*words(material, tmp_path / "whole", steps=4), *often]) == 0
    cut = words((sets, tmp_path / "other"), tmp_path / "cut", steps=4)

    class KilledError(Exception):
        pass

    real = Run.save

    def killed(run: Run, path: Path) -> None:
        real(run, path)
        if run.step == 2:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", killed)
        with pytest.raises(KilledError):
            main([*cut, *often])
    assert main([*cut, *often, "--sizes", "28", "14"]) == 2
    assert "another sizes" in capsys.readouterr().err
    assert main([*cut, *often, "--class-sizes", "42"]) == 2
    assert "another class sizes" in capsys.readouterr().err
    assert main([*cut, *often]) == 0
    for path in models.rglob("*.safetensors"):
        name = path.relative_to(models)
        assert path.read_bytes() == (tmp_path / "other" / name).read_bytes(), name
    assert main([*cut, *often]) == 2  # its teacher has learnt: what it taught is another's
    assert f"{tmp_path / 'cut' / 'taught'} holds what was taught with another teacher" in (
        capsys.readouterr().err
    )


def test_photographs_of_one_name_are_taught_each_their_own(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    sets, _ = material
    table = (sets / "one" / "pairs.csv").read_text().splitlines()
    cells = table[1].split(",")
    first, target = (sets / "one" / cell for cell in cells[:2])
    for folder in ("a", "b"):
        (sets / "one" / folder).mkdir()
        shutil.copy(first, sets / "one" / folder / "same.jpg")
    rows = [",".join([f"{folder}/same.jpg", target.name, *cells[2:]]) for folder in ("a", "b")]
    (sets / "one" / "pairs.csv").write_text("\n".join([table[0], *rows]) + "\n")
    assert main(words(material, tmp_path / "work", steps=1)) == 0
    assert len(list((tmp_path / "work" / "taught").rglob("*same.npy"))) == 2
    assert len(list((tmp_path / "work" / "taught").rglob("*same.classes.npy"))) == 2


def test_what_is_taught_is_a_mean_over_models_sizes_and_the_mirrored_picture() -> None:
    from dptcli.weights.catalog import BUILTIN_FOLDER

    rgb = np.random.default_rng(2).integers(0, 256, (84, 112, 3), np.uint8)
    teachers = open_teachers(
        [BUILTIN_FOLDER, BUILTIN_FOLDER],
        size=84,
        sizes=[42, 56],
        class_sizes=[84, 112],
        dtype="float32",
    )
    assert len(teachers.coarse) == 4
    assert [view.loaded.task for view in teachers.classes] == ["segment", "segment"]
    classes = teachers.probabilities(rgb)
    assert classes.shape == (25, 42, 56)
    np.testing.assert_allclose(classes.astype(np.float32).sum(axis=0), 1, atol=5e-3)
    mirrored = np.ascontiguousarray(rgb[:, ::-1])
    np.testing.assert_allclose(teachers.probabilities(mirrored)[..., ::-1], classes, atol=2e-3)
    depth = teachers.depth(rgb)
    assert depth.shape == (84, 112)
    assert np.isfinite(depth).all()


def test_a_folder_without_photographs_is_one_line(
    material: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").mkdir()
    given = (tmp_path / "none", material[1])
    assert main(words(given, tmp_path / "work", steps=1)) == 2
    assert "holds no pairs.csv" in capsys.readouterr().err
