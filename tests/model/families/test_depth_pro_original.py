"""The file of Depth Pro's authors: run, converted, and every name in it known."""

import random
from pathlib import Path

import torch
import transformers
from parity import assert_close, load_reference
from tiny_depth_pro import SIDE, draw, encoder, pixels, random_model

from dptcli import DepthProImageProcessor as Processor
from dptcli.model.families.depth_pro.catalogue import ENTRIES
from dptcli.model.families.depth_pro.originals import KIND, TABLE
from dptcli.model.families.original import rename, to_theirs
from dptcli.weights.convert import convert_original
from dptcli.weights.load import load_model

REFERENCE = transformers.DepthProForDepthEstimation


def original(folder: Path) -> Path:
    """A small model in a file with the authors' names, by the table read backwards."""
    values = {**draw(1), "merge_padding_value": 3, "num_fov_head_layers": 2}
    values |= {"intermediate_hook_ids": [11, 5], "use_batch_norm_in_fusion_residual": False}
    values |= {"intermediate_feature_dims": [16, 16], "fusion_hidden_size": 16}
    for name in ("image", "patch", "fov"):
        rng = random.Random(0)
        changes = {"hidden_size": 64, "use_mask_token": False, "mlp_ratio": 4}
        values[f"{name}_model_config"] = {**encoder(rng, layers=12), **changes}
    theirs = to_theirs(random_model(**values).state_dict(), TABLE)
    path = folder / "depth_pro.pt"
    torch.save(theirs, path)
    return path


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


def test_the_catalogue_names_its_terms() -> None:
    from dptcli.model.families.entry import OWN_TERMS

    [entry] = ENTRIES
    assert "apple" in OWN_TERMS[entry.licence]
