"""Tiny random models as the catalogue's rows, laid into a hub cache as their repositories' files.

Their config.json leave out what the hub's leave out: what the model gives.
"""

import hashlib
import json
from pathlib import Path

import torch
from depth_anything_3_folder import save_authors_folder
from depth_anything_3_nested_folder import save_authors_nested
from depth_anything_3_views_folder import save_authors_views
from original_files import depth_anything_file, saved
from tiny import small_backbone
from video_depth import save_original

from dptcli import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessor,
)
from dptcli.model.families.entry import CatalogEntry

DINOV2 = small_backbone(32)
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
ANYTHING = {"backbone_config": DINOV2, "reassemble_hidden_size": 32, "max_depth": 20, **NECK}
BEIT = {
    "model_type": "beit",
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "intermediate_size": 32,
    "image_size": 48,
    "patch_size": 8,
    "use_relative_position_bias": True,
    "reshape_hidden_states": False,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
ZOE = {
    "backbone_config": BEIT,
    **NECK,
    "bottleneck_features": 16,
    "num_relative_features": 4,
    "num_attractors": [3, 2, 2, 1],
    "bin_embedding_dim": 16,
    "bin_configurations": [{"name": "", "n_bins": 9, "min_depth": 0.001, "max_depth": 10.0}],
}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
    "backbone_out_indices": [0, 1, 2, 3],
    **NECK,
}


def save_row(entry: CatalogEntry, folder: Path) -> Path:
    """Write a model of the row's family, small enough to run in milliseconds."""
    if entry.original is not None:
        path = folder / entry.original
        path.parent.mkdir(parents=True)
        if entry.name.startswith("video"):
            save_original(path.parent, path.name)
        else:
            saved(path.parent, path.name, dict(depth_anything_file()))
        return folder
    with torch.random.fork_rng():
        torch.manual_seed(0)
        processor: DPTImageProcessor = DPTImageProcessor(size=56, ensure_multiple_of=14)
        if entry.name.endswith("-nested"):
            return save_authors_nested(folder)
        if entry.name.startswith("depth-anything-3") and entry.name.count("-") == 3:
            return save_authors_views(folder, name=f"da3-{entry.name.rpartition('-')[2]}")
        if entry.name.startswith("depth-anything-3"):
            kind = "da3metric-large" if "metric" in entry.name else "da3mono-large"
            return save_authors_folder(folder, name=kind)
        if entry.name.startswith("depth-anything"):
            model = DepthAnythingForDepthEstimation(DepthAnythingConfig(**ANYTHING))
        elif entry.name.startswith("zoedepth"):
            model = ZoeDepthForDepthEstimation(ZoeDepthConfig(**ZOE))
            processor = ZoeDepthImageProcessor(size=(48, 64), ensure_multiple_of=16)
        elif entry.task == "segment":
            model = DPTForSemanticSegmentation(DPTConfig(**VIT))
            processor = DPTImageProcessor(size=64)
        elif entry.name.startswith("dinov2"):
            model = DPTForDepthEstimation(DPTConfig(backbone_config=DINOV2, **NECK))
        else:
            model = DPTForDepthEstimation(DPTConfig(**VIT))
            processor = DPTImageProcessor(size=64)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    forget(folder)
    return folder


def forget(folder: Path) -> None:
    """Take out of config.json what the model gives."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values.pop("depth_estimation_type", None)
    path.write_text(json.dumps(values))


def into_cache(folder: Path, repository: str, cache: Path) -> Path:
    """Lay a folder's files into a cache as the hub's client does; the snapshot's folder."""
    commit = "a" * 40
    root = cache / ("models--" + repository.replace("/", "--"))
    snapshot = root / "snapshots" / commit
    for made in (root / "refs", root / "blobs", snapshot):
        made.mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        placed = snapshot / path.relative_to(folder)
        placed.parent.mkdir(parents=True, exist_ok=True)
        placed.symlink_to(blob)
    return snapshot
