"""Depth Pro equals the reference both ways on random models; its metres follow the camera."""

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from parity import assert_close, load_reference, randomize
from PIL import Image
from torch import Tensor

from dptcli import AutoImageProcessor, DepthProConfig, DepthProForDepthEstimation
from dptcli import DepthProImageProcessor as Processor
from dptcli.cli import main
from dptcli.depth.camera import Camera
from dptcli.errors import ConfigError, ShapeError
from dptcli.fast.optimize import optimize
from dptcli.model.families.depth_pro import pyramid
from dptcli.model.families.depth_pro.catalogue import ENTRIES
from dptcli.model.families.depth_pro.originals import KIND, TABLE
from dptcli.model.families.original import rename
from dptcli.pipeline import Options, open_pipeline
from dptcli.weights.convert import convert_original
from dptcli.weights.load import load_model

REFERENCE = transformers.DepthProForDepthEstimation
SIDE = 32  # of a patch; the network's input is four times it
SHAPES_HW = {"square": (96, 96), "landscape": (60, 100), "portrait": (150, 90)}


def encoder(rng: random.Random, *, layers: int = 3, patch: int = 8) -> dict[str, Any]:
    return {
        "model_type": "dinov2",
        "hidden_size": 64 if rng.random() < 0.5 else 24,
        "num_attention_heads": 1,
        "num_hidden_layers": layers,
        "mlp_ratio": 2,
        "image_size": SIDE,
        "patch_size": patch,
        "layerscale_value": 0.7,
        "use_mask_token": rng.random() < 0.5,
    }


def draw(seed: int) -> dict[str, Any]:
    """A random tiny Depth Pro; the first seed has the published one's pyramid."""
    rng = random.Random(seed)
    published = seed == 0
    values = {
        "patch_size": SIDE,
        "fusion_hidden_size": rng.choice([16, 24]),
        "intermediate_hook_ids": [2, 0] if rng.random() < 0.5 else [1, 0],
        "intermediate_feature_dims": rng.choice([[16, 16], [12, 16], [16, 24]]),
        "scaled_images_feature_dims": rng.choice([[20, 20, 12], [16, 24, 16]]),
        "merge_padding_value": rng.choice([3, 1, 0]),
        "use_fov_model": True,
        "num_fov_head_layers": rng.choice([1, 2]),
        "use_batch_norm_in_fusion_residual": rng.random() < 0.3,
        **{
            f"{name}_model_config": encoder(rng, patch=4 if published else 8)
            for name in ("image", "patch", "fov")
        },
    }
    if not published and rng.random() < 0.3:
        values["scaled_images_overlap_ratios"] = [0.0, 0.0, 0.25]
    return values


def pixels(batch: int = 2, side: int = 4 * SIDE, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def lifted(model: Any) -> Any:
    """The same, with depth that is not all zero, and a field of view that is an angle."""
    with torch.no_grad():
        model.head.layers[4].bias.fill_(1.0)
        if model.fov_model is not None:
            model.fov_model.head.layers[-1].bias.fill_(55.0)
    return model


def reference_of(values: dict[str, Any], *, seed: int = 0) -> Any:
    model = REFERENCE(transformers.DepthProConfig(**values))
    return lifted(randomize(model, seed=seed, std=0.15))


def random_model(seed: int = 1, **changes: Any) -> DepthProForDepthEstimation:
    model = DepthProForDepthEstimation(DepthProConfig(**draw(seed) | changes))
    return lifted(randomize(model, seed=seed, std=0.15))


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_depth_pro_equals_the_reference_both_ways(seed: int, tmp_path: Path) -> None:
    reference = reference_of(draw(seed), seed=seed)
    reference.save_pretrained(tmp_path / "theirs")
    ours = DepthProForDepthEstimation.from_pretrained(tmp_path / "theirs")
    x = pixels(1 if seed == 0 else 2, seed=seed)  # the first one is the largest
    wanted = {"output_hidden_states": True, "output_attentions": True}
    expected, found = reference(x), ours(x)
    assert_close(found.predicted_depth, expected.predicted_depth)
    assert_close(found.field_of_view, expected.field_of_view)
    for mine, theirs in zip(
        ours(x, **wanted).hidden_states,
        reference(x, output_hidden_states=True).hidden_states,
        strict=True,
    ):
        assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(REFERENCE, tmp_path / "ours")
    assert_close(back(x).predicted_depth, expected.predicted_depth)
    assert_close(back(x).field_of_view, expected.field_of_view)


@torch.inference_mode()
def test_a_larger_input_than_the_usual_equals_the_reference() -> None:
    x = pixels(1, 5 * SIDE)
    assert_close(
        random_model()(x).predicted_depth, reference_of(draw(1), seed=1)(x).predicted_depth
    )


@torch.inference_mode()
def test_the_cheaper_form_gives_the_same() -> None:
    x = pixels()
    expected, found = random_model()(x), optimize(random_model())(x)
    assert_close(found.predicted_depth, expected.predicted_depth)
    assert_close(found.field_of_view, expected.field_of_view)


@torch.inference_mode()
def test_patches_go_through_in_parts_that_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = random_model(), []
    encoder = model.depth_pro.encoder.patch_encoder.model
    features = encoder.features

    def watched(patches: Tensor) -> Any:
        seen.append(len(patches))
        return features(patches)

    monkeypatch.setattr(encoder, "features", watched)
    expected = model(pixels()).predicted_depth
    assert sum(seen) == 2 * (25 + 9 + 1)
    assert max(seen) == pyramid.PATCHES_AT_ONCE
    monkeypatch.setattr(pyramid, "PATCHES_AT_ONCE", 100)
    assert_close(model(pixels()).predicted_depth, expected)


@torch.inference_mode()
def test_without_its_third_encoder_it_estimates_no_camera() -> None:
    model = random_model(use_fov_model=False)
    assert model(pixels(1)).field_of_view is None
    assert not model.config.gives_camera


@pytest.mark.parametrize("hw", [(128, 160), (96, 96)])
def test_what_no_pyramid_is_made_of_is_refused(hw: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="squares of at least 128x128"):
        random_model()(torch.zeros(1, 3, *hw))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scaled_images_ratios": [1, 0.5, 0.25]}, "must rise"),
        ({"scaled_images_feature_dims": [8, 8]}, "scaled_images_feature_dims"),
        ({"intermediate_hook_ids": [7, 0]}, "intermediate_hook_ids"),
        ({"intermediate_feature_dims": [8]}, "intermediate_feature_dims"),
        ({"num_fov_head_layers": 9}, "num_fov_head_layers"),
        ({"patch_size": 30}, "patch_size 8 does not divide"),
        ({"patch_model_config": {"model_type": "beit"}}, "must be dinov2"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DepthProConfig(**draw(1) | change)


# --- the processor -------------------------------------------------------------------------------


def photograph(hw: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def as_published(image: np.ndarray, side: int) -> Tensor:
    """Their order: to floats of 255, less mean and by deviation, then the plain bilinear resize."""
    planes = torch.from_numpy(image).permute(2, 0, 1).float()
    mean = std = torch.tensor([0.5, 0.5, 0.5]) * 255
    planes = (planes - mean[:, None, None]) / std[:, None, None]
    return F.interpolate(planes[None], (side, side), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("shape", SHAPES_HW)
def test_pixels_are_normalised_before_they_are_resized(shape: str) -> None:
    image = photograph(SHAPES_HW[shape])
    ours = Processor(size=128)
    found = ours(image, return_tensors="pt").pixel_values
    assert torch.equal(found, as_published(image, 128))
    np.testing.assert_array_equal(ours.prepare(Image.fromarray(image)).pixel_values, found[0])
    assert ours.network_hw(SHAPES_HW[shape]) == (128, 128)
    assert Processor().network_hw((40, 90)) == (1536, 1536)


def reference_processor() -> Any:
    pytest.importorskip("torchvision", reason="the reference's processor needs torchvision")
    from transformers.models.depth_pro.image_processing_depth_pro import DepthProImageProcessor

    return DepthProImageProcessor


def test_pixels_are_the_references_bit_for_bit() -> None:
    changes: list[dict[str, Any]] = [{}, {"do_normalize": False}, {"do_rescale": False}]
    changes += [{"do_resize": False}, {"resample": 3}]
    for change, hw in itertools.product(changes, SHAPES_HW.values()):
        values = {"size": {"height": 128, "width": 128}, **change}
        image = photograph(hw)
        expected = reference_processor()(**values)(Image.fromarray(image), return_tensors="pt")
        found = Processor(**values)(image, return_tensors="pt").pixel_values
        assert torch.equal(found, expected["pixel_values"])


def test_metres_and_the_focal_length_are_the_references() -> None:
    from types import SimpleNamespace

    inverse = torch.rand(2, 48, 48, generator=torch.Generator().manual_seed(0))
    outputs = SimpleNamespace(predicted_depth=inverse, field_of_view=torch.tensor([60.0, 40.0]))
    found = Processor().post_process_depth_estimation(outputs, [(30, 60), (90, 40)])
    for one, hw, fov, own in zip(found, [(30, 60), (90, 40)], [60, 40], inverse, strict=True):
        focal = 0.5 * hw[1] / math.tan(math.radians(fov) / 2)
        assert float(one["focal_length"]) == pytest.approx(focal, rel=1e-5)
        resized = F.interpolate(own[None, None] * hw[1] / focal, hw, mode="bilinear")[0, 0]
        assert_close(one["predicted_depth"], 1 / resized.clamp(1e-4, 1e4))
    [plain, _] = Processor().post_process_depth_estimation(outputs)
    assert torch.equal(plain["predicted_depth"], 1 / inverse[0].clamp(1e-4, 1e4))


def test_the_published_spelling_is_read(tmp_path: Path) -> None:
    published = {"image_processor_type": "DepthProImageProcessorFast", "image_mean": 0.5}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    ours = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(ours, Processor)
    assert ours.prepare(photograph((5, 7))).pixel_values.shape == (3, 1536, 1536)
    with pytest.raises(ConfigError, match="resample"):
        Processor(resample=1)


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("depth-pro")
    random_model().save_pretrained(path)
    Processor(size=128).save_pretrained(path)
    return path


@pytest.mark.parametrize("shape", SHAPES_HW)
def test_a_photographs_metres_are_the_references(folder: Path, shape: str) -> None:
    image, hw = photograph(SHAPES_HW[shape]), SHAPES_HW[shape]
    loaded = load_model(folder, device="cpu", dtype="float32", optimized=True)
    assert loaded.is_metric
    prediction = open_pipeline(loaded, task="depth").predict_one(image)
    with torch.inference_mode():
        outputs = load_reference(REFERENCE, folder)(as_published(image, 128))
    fov_deg = float(outputs.field_of_view)
    focal = 0.5 * hw[1] / math.tan(math.radians(fov_deg) / 2)
    inverse = outputs.predicted_depth[0] * hw[1] / focal
    resized = F.interpolate(inverse[None, None], hw, mode="bilinear")[0, 0]
    # In 1 / metres: beside 10 km a rounding is metres.
    assert_close(1 / torch.from_numpy(prediction.values), resized.clamp(1e-4, 1e4))
    assert prediction.lens is not None
    assert prediction.lens.fx == prediction.lens.fy == pytest.approx(focal, rel=1e-4)
    assert prediction.lens.origin == "the network"


def test_a_known_camera_takes_the_networks_place_and_changes_the_metres(folder: Path) -> None:
    image = photograph((60, 100))
    loaded = load_model(folder, device="cpu", dtype="float32")
    own = open_pipeline(loaded, task="depth").predict_one(image)
    options = Options(camera=Camera(fov_deg=90))
    given = open_pipeline(loaded, task="depth", options=options).predict_one(image)
    assert own.lens is not None
    assert given.lens is not None
    assert given.lens.origin == "--fov"
    inner = (own.values < 1000) & (given.values < 1000)
    assert inner.mean() > 0.5
    np.testing.assert_allclose(
        given.values[inner] / own.values[inner], given.lens.fx / own.lens.fx, rtol=1e-4
    )


def test_dpt_writes_the_camera_that_the_network_saw(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph((60, 100))).save(tmp_path / "a.png")
    words = ["depth", tmp_path / "a.png", "-o", tmp_path / "a.npz", "-m", folder, "-f", "npz"]
    words += ["--dtype", "float32", "--device", "cpu"]
    assert main([*map(str, words)]) == 0
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["kind"], facts["camera"]["from"]) == ("depth_m", "the network")
    assert facts["metres_by"]["focal_from"] == "the network"
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["intrinsics"][0, 0, 0] == pytest.approx(facts["camera"]["fx"], abs=1e-3)
    assert 40 < facts["camera"]["fov_x_deg"] < 70


# --- the authors' file ---------------------------------------------------------------------------


def original(folder: Path) -> Path:
    """A small model in a file with the authors' names, by the table read backwards."""
    values = {**draw(1), "merge_padding_value": 3, "num_fov_head_layers": 2}
    values |= {"intermediate_hook_ids": [11, 5], "use_batch_norm_in_fusion_residual": False}
    values |= {"intermediate_feature_dims": [16, 16], "fusion_hidden_size": 16}
    for name in ("image", "patch", "fov"):
        rng = random.Random(0)
        changes = {"hidden_size": 64, "use_mask_token": False, "mlp_ratio": 4}
        values[f"{name}_model_config"] = {**encoder(rng, layers=12), **changes}
    state = random_model(**values).state_dict()
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for their, our in TABLE:
            fixed = our.replace("{qkv}", "query")
            found = _match(fixed, name)
            if found is not None:
                if "{qkv}" in our:
                    parts = (
                        state[name.replace("query", part)] for part in ("query", "key", "value")
                    )
                    tensor = torch.cat([*parts])
                theirs[their.format(**found)] = tensor
                break
        else:
            assert ".key." in name or ".value." in name, name
    path = folder / "depth_pro.pt"
    torch.save(theirs, path)
    return path


def _match(template: str, name: str) -> dict[str, str] | None:
    import re

    fields = {"n": r"\d+", "m": r"\d+", "q": r"[\w.]+"}
    pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    pattern = re.sub(r"\{(\w)\}", lambda found: f"(?P<{found[1]}>{fields[found[1]]})", pattern)
    matched = re.fullmatch(pattern, name)
    return None if matched is None else matched.groupdict()


def test_the_authors_file_runs_and_is_converted(tmp_path: Path) -> None:
    path = original(tmp_path)
    loaded = load_model(path, device="cpu", dtype="float32")
    config = loaded.model.config
    assert config.patch_size == SIDE
    assert (config.use_fov_model, config.fusion_hidden_size) == (True, 16)
    assert loaded.processor == Processor()
    expected = loaded.model(pixels(1))
    done = convert_original(path, tmp_path / "hub")
    assert done.kind == "depth_m"
    back = load_reference(REFERENCE, tmp_path / "hub")
    with torch.inference_mode():
        found = back(pixels(1))
    assert_close(expected.predicted_depth.detach(), found.predicted_depth)
    assert_close(expected.field_of_view.detach(), found.field_of_view)


def test_every_name_of_the_authors_file_has_its_place() -> None:
    """The names of depth_pro.pt as its network's code makes them, one of each sort."""
    block = "blocks.23.{}".format
    theirs = [
        *(
            f"{encoder}.{name}"
            for encoder in ("encoder.patch_encoder", "encoder.image_encoder", "fov.encoder.0")
            for name in ("cls_token", "pos_embed", "patch_embed.proj.bias", "norm.weight",
                         block("attn.qkv.weight"), block("ls2.gamma"), block("mlp.fc1.bias"))
        ),
        *(f"encoder.upsample_latent0.{index}.weight" for index in range(4)),
        *(f"encoder.upsample_latent1.{index}.weight" for index in range(3)),
        *(f"encoder.upsample{level}.{index}.weight" for level in range(3) for index in range(2)),
        "encoder.upsample_lowres.bias", "encoder.fuse_lowres.weight",
        *(f"decoder.convs.{level}.weight" for level in range(1, 5)),
        *(f"decoder.fusions.{level}.resnet2.residual.{index}.bias"
          for level in range(5) for index in (1, 3)),
        *(f"decoder.fusions.{level}.deconv.weight" for level in range(1, 5)),
        "decoder.fusions.0.out_conv.bias", "head.0.weight", "head.4.bias",
        "fov.encoder.1.weight", "fov.downsample.0.bias", "fov.head.0.weight", "fov.head.4.bias",
    ]  # fmt: skip
    renamed, unknown = rename({name: torch.zeros(3) for name in theirs}, TABLE)
    assert not unknown
    ours = {name for name, _ in random_model().named_parameters()}
    shallow = {name.replace("layer.23", "layer.0") for name in renamed}
    missing = shallow - ours
    assert missing <= {"fov_model.head.layers.4.bias"}, missing
    assert KIND.network_hw == (1536, 1536)


def test_an_export_is_refused_in_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    assert main(["export", str(folder), str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    assert "is not exported: its patches are cut" in error
    assert len(error.splitlines()) == 1


def test_the_catalogue_names_its_terms() -> None:
    from dptcli.model.families.entry import OWN_TERMS

    [entry] = ENTRIES
    assert "apple" in OWN_TERMS[entry.licence]
