"""Tiny models of both tasks with one backbone."""

from pathlib import Path

import numpy as np
import torch
from tiny_training import tiny

from dptcli.processing.processor import DPTImageProcessor
from dptcli.weights.load import LoadedModel, load_model

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 61, 3), np.uint8)


def saved(folder: Path, task: str, **processor: object) -> LoadedModel:
    """A tiny model of a task; both tasks' have one backbone."""
    model = tiny(task)
    backbone, first = model.backbone, tiny().backbone
    assert backbone is not None
    assert first is not None
    backbone.load_state_dict(first.state_dict())
    torch.manual_seed(7)
    for name, value in model.named_parameters():
        if not name.startswith("backbone"):
            torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(folder)
    settings = {"size": 42, "ensure_multiple_of": 14, "keep_aspect_ratio": True, **processor}
    DPTImageProcessor(**settings).save_pretrained(folder)
    return load_model(folder, task=task, device="cpu")
