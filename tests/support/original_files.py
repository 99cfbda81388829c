"""Files of isl-org/DPT, Depth-Anything and PromptDA, made up.

They are spelled out here by hand, name by name as the authors' code saves them, so that the key
tables are checked against something else than themselves.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WIDTH, HIDDEN, FUSED = 64, 96, 16
NECK = (8, 12, 16, 20)
MIDAS, KITTI = "dpt_large-midas-2f21e586.pt", "dpt_hybrid_kitti-cb926ef4.pt"
NYU, ADE20K = "dpt_hybrid_nyu-2ce69ec7.pt", "dpt_large-ade20k-b12dca68.pt"
V2 = "depth_anything_v2_vits.pth"
PROMPTDA = "model.ckpt"


class File(dict[str, Tensor]):
    """A state dict that is filled with seeded random values by name and shape."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(7)

    def add(self, name: str, *shape: int) -> None:
        self[name] = torch.randn(*shape, generator=self.generator) * 0.1

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        """A weight and a bias of as many values as there are outputs."""
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", shape[0])

    def batch_norm(self, name: str, channels: int) -> None:
        self.layer(name, channels)
        self.add(f"{name}.running_mean", channels)
        self[f"{name}.running_var"] = torch.rand(channels, generator=self.generator) + 0.5
        self[f"{name}.num_batches_tracked"] = torch.tensor(3)


def add_transformer(file: File, prefix: str, *, scales: bool) -> None:
    file.add(f"{prefix}.cls_token", 1, 1, WIDTH)
    file.add(f"{prefix}.pos_embed", 1, 17, WIDTH)
    for block in (f"{prefix}.blocks.{index}" for index in range(12)):
        file.layer(f"{block}.norm1", WIDTH)
        file.layer(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        file.layer(f"{block}.attn.proj", WIDTH, WIDTH)
        file.layer(f"{block}.norm2", WIDTH)
        file.layer(f"{block}.mlp.fc1", HIDDEN if not scales else 4 * WIDTH, WIDTH)
        file.layer(f"{block}.mlp.fc2", WIDTH, HIDDEN if not scales else 4 * WIDTH)
        if scales:
            file.add(f"{block}.ls1.gamma", WIDTH)
            file.add(f"{block}.ls2.gamma", WIDTH)
    file.layer(f"{prefix}.norm", WIDTH)


def add_scratch(file: File, prefix: str, *, neck: tuple[int, ...], normed: bool) -> None:
    for stage, channels in enumerate(neck, start=1):
        file.layer(f"{prefix}.layer{stage}_rn", FUSED, channels, 3, 3, bias=False)
    for stage in range(1, 5):
        block = f"{prefix}.refinenet{stage}"
        file.layer(f"{block}.out_conv", FUSED, FUSED, 1, 1)
        for unit in (f"{block}.resConfUnit{number}" for number in (1, 2)):
            for number in (1, 2):
                file.layer(f"{unit}.conv{number}", FUSED, FUSED, 3, 3, bias=not normed)
                if normed:
                    file.batch_norm(f"{unit}.bn{number}", FUSED)


def dpt_file(*, hybrid: bool = False, num_labels: int = 0) -> File:
    """What `torch.save(model.state_dict())` holds for an isl-org DPT."""
    file = File()
    add_transformer(file, "pretrained.model", scales=False)
    file.layer("pretrained.model.head", 1000, WIDTH)
    neck = (128, 128, *NECK[2:]) if hybrid else NECK
    if hybrid:
        stem = "pretrained.model.patch_embed.backbone"
        file.layer(f"{stem}.stem.conv", 32, 3, 7, 7, bias=False)
        file.layer(f"{stem}.stem.norm", 32)
        inputs = 32
        for stage, depth in enumerate((2, 1, 1)):
            for block in (f"{stem}.stages.{stage}.blocks.{index}" for index in range(depth)):
                if block.endswith("0"):
                    file.layer(f"{block}.downsample.conv", 128, inputs, 1, 1, bias=False)
                    file.layer(f"{block}.downsample.norm", 128)
                for number, shape in enumerate(
                    ((32, inputs, 1, 1), (32, 32, 3, 3), (128, 32, 1, 1)), start=1
                ):
                    file.layer(f"{block}.conv{number}", *shape, bias=False)
                    file.layer(f"{block}.norm{number}", shape[0])
                inputs = 128
        file.layer("pretrained.model.patch_embed.proj", WIDTH, 128, 1, 1)
    else:
        file.layer("pretrained.model.patch_embed.proj", WIDTH, 3, 16, 16)
    for stage in range(3 if hybrid else 1, 5):
        post, channels = f"pretrained.act_postprocess{stage}", neck[stage - 1]
        file.layer(f"{post}.0.project.0", WIDTH, 2 * WIDTH)
        file.layer(f"{post}.3", channels, WIDTH, 1, 1)
        kernel = {1: 4, 2: 2, 4: 3}.get(stage)
        if kernel:
            file.layer(f"{post}.4", channels, channels, kernel, kernel)
    add_scratch(file, "scratch", neck=neck, normed=num_labels > 0)
    if num_labels:
        for head in ("scratch.output_conv", "auxlayer"):
            file.layer(f"{head}.0", FUSED, FUSED, 3, 3, bias=False)
            file.batch_norm(f"{head}.1", FUSED)
            file.layer(f"{head}.4", num_labels, FUSED, 1, 1)
    else:
        file.layer("scratch.output_conv.0", FUSED // 2, FUSED, 3, 3)
        file.layer("scratch.output_conv.2", 32, FUSED // 2, 3, 3)
        file.layer("scratch.output_conv.4", 1, 32, 1, 1)
        file["scratch.output_conv.4.bias"] += 2.0  # lifts the last ReLU's input off zero
    return file


def depth_anything_file() -> File:
    """What `torch.save(model.state_dict())` holds for a Depth-Anything."""
    file = File()
    add_transformer(file, "pretrained", scales=True)
    file.add("pretrained.mask_token", 1, WIDTH)
    file.layer("pretrained.patch_embed.proj", WIDTH, 3, 14, 14)
    for stage, channels in enumerate(NECK):
        file.layer(f"depth_head.projects.{stage}", channels, WIDTH, 1, 1)
    for stage, kernel in ((0, 4), (1, 2), (3, 3)):
        channels = NECK[stage]
        file.layer(f"depth_head.resize_layers.{stage}", channels, channels, kernel, kernel)
    add_scratch(file, "depth_head.scratch", neck=NECK, normed=False)
    file.layer("depth_head.scratch.output_conv1", FUSED // 2, FUSED, 3, 3)
    file.layer("depth_head.scratch.output_conv2.0", 32, FUSED // 2, 3, 3)
    file.layer("depth_head.scratch.output_conv2.2", 1, 32, 1, 1)
    file["depth_head.scratch.output_conv2.2.bias"] += 2.0
    return file


def promptda_file() -> File:
    """The tensors of a PromptDA checkpoint, without the training program's name before each."""
    file = depth_anything_file()
    for stage in range(1, 5):
        branch = f"depth_head.scratch.refinenet{stage}.resConfUnit_depth"
        file.layer(f"{branch}.0", FUSED, 1, 3, 3)
        file.layer(f"{branch}.2", FUSED, FUSED, 3, 3)
        file.layer(f"{branch}.4", FUSED, FUSED, 3, 3)
    return file


FILES = {
    MIDAS: dpt_file,
    KITTI: lambda: dpt_file(hybrid=True),
    NYU: lambda: dpt_file(hybrid=True),
    ADE20K: lambda: dpt_file(num_labels=150),
    V2: depth_anything_file,
    PROMPTDA: promptda_file,
}


def saved(folder: Path, name: str, file: Any = None) -> Path:
    path = folder / name
    torch.save(dict(FILES[name]()) if file is None else file, path)
    return path


def pixels(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))
