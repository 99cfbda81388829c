"""A small Depth Anything 3 for any views in its authors' layout; weights by formula.

`depth_anything_3_views.npz` beside the test holds what the authors' own code gives with them.
"""

import json
import math
import zlib
from pathlib import Path

import torch
from depth_anything_3_folder import pixels
from safetensors.torch import save_file
from torch import Tensor

WIDTH, HEADS, BLOCKS, START, GRID, PATCH = 128, 2, 12, 4, 5, 14
FUSED, WIDTHS, HIDDEN = 16, (8, 8, 12, 16), 32


def shapes() -> dict[str, tuple[int, ...]]:
    """{name of a tensor: its shape}; of the camera encoder's four blocks two."""
    return {
        **{f"model.backbone.pretrained.{name}": shape for name, shape in _encoder().items()},
        **{f"model.head.{name}": shape for name, shape in _head().items()},
        **{f"model.cam_dec.{name}": shape for name, shape in _camera().items()},
        **{f"model.cam_enc.{name}": shape for name, shape in _encoder_of_cameras().items()},
    }


def _encoder() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "camera_token": (1, 2, WIDTH),
        "pos_embed": (1, 1 + GRID * GRID, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    linear = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    for block in range(BLOCKS):
        for name, (out, into) in linear.items():
            found[f"blocks.{block}.{name}.weight"] = (out * WIDTH, into * WIDTH)
            found[f"blocks.{block}.{name}.bias"] = (out * WIDTH,)
        for name in ("norm1", "norm2"):
            found[f"blocks.{block}.{name}.weight"] = found[f"blocks.{block}.{name}.bias"] = (WIDTH,)
        for name in ("q_norm", "k_norm") if block >= START else ():
            for part in ("weight", "bias"):
                found[f"blocks.{block}.attn.{name}.{part}"] = (WIDTH // HEADS,)
        for name in ("ls1", "ls2"):
            found[f"blocks.{block}.{name}.gamma"] = (WIDTH,)
    return found


def _head() -> dict[str, tuple[int, ...]]:
    half = FUSED // 2
    convs: dict[str, tuple[int, ...]] = {
        "resize_layers.0": (WIDTHS[0], WIDTHS[0], 4, 4),
        "resize_layers.1": (WIDTHS[1], WIDTHS[1], 2, 2),
        "resize_layers.3": (WIDTHS[3], WIDTHS[3], 3, 3),
        "scratch.output_conv1": (half, FUSED, 3, 3),
        "scratch.output_conv2.0": (HIDDEN, half, 3, 3),
        "scratch.output_conv2.2": (2, HIDDEN, 1, 1),
    }
    for stage, channels in enumerate(WIDTHS):
        convs[f"projects.{stage}"] = (channels, 2 * WIDTH, 1, 1)
        convs[f"scratch.layer{stage + 1}_rn"] = (FUSED, channels, 3, 3)
        for chain in ("", "_aux"):
            block = f"scratch.refinenet{stage + 1}{chain}"
            for unit in (1, 2) if stage < 3 else (2,):  # the deepest meets no skip
                for conv in (1, 2):
                    convs[f"{block}.resConfUnit{unit}.conv{conv}"] = (FUSED, FUSED, 3, 3)
            convs[f"{block}.out_conv"] = (FUSED, FUSED, 1, 1)
        for conv in range(5):
            out, into = (half, FUSED) if conv % 2 == 0 else (FUSED, half)
            convs[f"scratch.output_conv1_aux.{stage}.{conv}"] = (out, into, 3, 3)
        convs[f"scratch.output_conv2_aux.{stage}.0"] = (HIDDEN, half, 3, 3)
        convs[f"scratch.output_conv2_aux.{stage}.5"] = (7, HIDDEN, 1, 1)
    found: dict[str, tuple[int, ...]] = {"norm.weight": (2 * WIDTH,), "norm.bias": (2 * WIDTH,)}
    for stage in range(4):
        for part in ("weight", "bias"):
            found[f"scratch.output_conv2_aux.{stage}.2.{part}"] = (HIDDEN,)
    for name, shape in convs.items():
        found[f"{name}.weight"] = shape
        if "_rn" not in name:
            found[f"{name}.bias"] = (shape[0],)
    return found


def _camera() -> dict[str, tuple[int, ...]]:
    linear = {"backbone.0": 2 * WIDTH, "backbone.2": 2 * WIDTH}
    linear |= {"fc_t": 3, "fc_qvec": 4, "fc_fov.0": 2}
    found: dict[str, tuple[int, ...]] = {}
    for name, out in linear.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, 2 * WIDTH), (out,)
    return found


def _encoder_of_cameras() -> dict[str, tuple[int, ...]]:
    linear = {"pose_branch.fc1": (WIDTH // 2, 9), "pose_branch.fc2": (WIDTH, WIDTH // 2)}
    found: dict[str, tuple[int, ...]] = {}
    for block in (f"trunk.{number}" for number in range(2)):
        sizes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (out, into) in sizes.items():
            linear[f"{block}.{name}"] = (out * WIDTH, into * WIDTH)
        found |= {f"{block}.{name}.gamma": (WIDTH,) for name in ("ls1", "ls2")}
    norms = ("token_norm", "trunk_norm", *(f"trunk.{b}.norm{n}" for b in range(2) for n in (1, 2)))
    for name, shape in {**linear, **dict.fromkeys(norms, (WIDTH,))}.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]
    return found


def weights() -> dict[str, Tensor]:
    """Every tensor by a formula of its name; a field of view around 60 degrees."""
    found = {name: _noise(name, shape) for name, shape in shapes().items()}
    found["model.head.scratch.output_conv2.2.weight"] *= 0.2  # depth from 0.1 to 10 or so
    found["model.cam_dec.fc_fov.0.weight"] *= 0.1
    found["model.cam_dec.fc_fov.0.bias"] = torch.tensor([0.9, 1.1])
    return found


def _noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Digits of a sine: waves alone make matrices of low rank, which hide one view from another."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    noise = torch.frac(torch.sin(place * 12.9898 + zlib.crc32(name.encode()) % 10_000) * 43758.5453)
    if "norm" in name or "gamma" in name:
        base = 0.0 if name.endswith("bias") else 1.0
        return (base + 0.2 * noise).float().reshape(shape)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
    return (noise * 2.0 / math.sqrt(fan_in)).float().reshape(shape)


def views(hw: tuple[int, int], count: int) -> Tensor:
    """Several inputs (S, 3, H, W): the first turned over, shifted and darkened."""
    first = pixels(hw)[0]
    made = [first, first.flip(-1) * 0.8, first.roll(9, dims=-1) + 0.2, first.flip(-2) * 1.3]
    return torch.stack(made[:count])


def save_authors_views(folder: Path, *, name: str = "da3-small") -> Path:
    """Write the model as its authors do: config.json with model_name, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_name": name, "config": {}}))
    save_file(weights(), folder / "model.safetensors")
    return folder


def cameras(hw: tuple[int, int], count: int) -> tuple[Tensor, Tensor]:
    """Cameras of `views`: extrinsics (S, 3, 4) and intrinsics (S, 3, 3), float64, none alike.

    Turned by up to half a turn and more, in a world whose origin is elsewhere.
    """
    extrinsics, intrinsics = [], []
    for number in range(count):
        about = torch.tensor([0.3 + number, 1.0, -0.5 * number], dtype=torch.float64)
        about = about / about.norm() * (0.4 + 1.3 * number)
        x, y, z = about.tolist()
        skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        place = torch.tensor([5.0 + 2 * number, -1.0 - number**2, 3.0], dtype=torch.float64)
        turn = torch.linalg.matrix_exp(skew)
        extrinsics.append(torch.cat((turn, (-turn @ place)[:, None]), dim=1))
        lens = torch.eye(3, dtype=torch.float64)
        lens[0, 0], lens[1, 1] = 60.0 + 7 * number, 50.0 + 5 * number
        lens[0, 2], lens[1, 2] = hw[1] / 2, hw[0] / 2
        intrinsics.append(lens)
    return torch.stack(extrinsics), torch.stack(intrinsics)
