"""Depth and segmentation in one run of the network: two models on one backbone, which runs once.

B batch, C classes, h×w the size of the network's maps, H×W of the result.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ModelError
from dptcli.fast.optimize import optimize
from dptcli.model.dpt import DPTForDepthEstimation, DPTForSemanticSegmentation, Predictor
from dptcli.model.outputs import DepthAndNormalsOutput
from dptcli.pipeline import Options, Pipeline, Prediction, open_pipeline
from dptcli.processing.postprocess import crop_padding, label_map
from dptcli.records.report import Clock
from dptcli.running.answer import Answer
from dptcli.running.network import Network, load_in_float32
from dptcli.running.seen import Sample
from dptcli.weights.load import LoadedModel


class Together(nn.Module):
    """A depth model with the neck and head of a segmentation model on the same backbone."""

    def __init__(self, depth: Predictor, segment: Predictor) -> None:
        super().__init__()
        self.depth = depth
        self.neck, self.head = segment.neck, segment.head
        self.config = depth.config

    def forward(self, pixel_values: Tensor) -> DepthAndNormalsOutput:
        """(B, 3, H, W) -> predicted_depth (B, 1 + C, h, w): depth, then the logits of the classes.

        In one tensor, they go through whatever a depth map goes through on its way to a result. And
        the surface normals, where the depth model knows them.
        """
        maps = self.depth.features(pixel_values).maps
        depth = self.depth.head(self.depth.neck(maps))[:, None]
        logits = self.head(self.neck(maps))
        if logits.shape[-2:] != depth.shape[-2:]:
            logits = F.interpolate(logits, size=depth.shape[-2:], mode="bilinear")
        both = torch.cat((depth, logits), dim=1)
        return DepthAndNormalsOutput(predicted_depth=both, **self.depth.beside(maps))


class TogetherPipeline(Pipeline):
    """A pipeline of a depth model whose predictions hold `labels` too; their names: the loaded
    model's labels.
    """

    def __init__(
        self,
        depth: LoadedModel,
        segment: LoadedModel,
        *,
        optimized: bool = True,
        options: Options | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_shared(depth, segment)
        assert isinstance(depth.model, Predictor)
        assert isinstance(segment.model, Predictor)
        both: Any = Together(depth.model, segment.model).eval()
        if optimized:
            optimize(both, int8=depth.int8)
        loaded = replace(depth, model=both, labels=segment.labels, optimized=optimized)
        super().__init__(loaded, options=options, clock=clock)

        def in_float32() -> nn.Module:
            parts: list[Any] = [load_in_float32(depth), load_in_float32(segment)]
            return Together(*parts).eval()

        self.network = Network(loaded, self.sizes, in_float32=in_float32)

    @torch.inference_mode()
    def finish(self, output: Answer, sample: Sample) -> Prediction:
        """Bring both, depth and logits (1 + C, h, w), to the size that was asked for."""
        num_classes, maps = len(output.inner), output.maps
        depth = torch.cat((maps[:1], maps[1 + num_classes :])) if output.beside else maps[0]
        prediction = super().finish(replace(output, maps=depth), sample)
        with self.clock.stage("postprocess"):
            prepared = sample.prepared
            logits = crop_padding(
                output.inner,
                padding=prepared.padding,
                network_hw=prepared.padded_hw,
                mode="bilinear",
            )
            height, width = prediction.values.shape
            return replace(prediction, labels=label_map(logits, (height, width)).numpy())


def check_shared(depth: LoadedModel, segment: LoadedModel) -> None:
    """Raise ModelError unless one run of one backbone serves both models."""
    names = f"models {depth.name!r} and {segment.name!r}"
    remedy = "run `dpt depth` and `dpt segment` one after the other"
    for loaded, task, wanted in (
        (depth, "depth", DPTForDepthEstimation),
        (segment, "segment", DPTForSemanticSegmentation),
    ):
        if loaded.task != task or not isinstance(loaded.model, Predictor):
            kind = type(loaded.model).__name__
            raise ModelError(
                f"model {loaded.name!r} is a {kind}, not a {wanted.__name__}; {remedy}"
            )
    if depth.processor.config != segment.processor.config:
        raise ModelError(f"{names} want different pixels (preprocessor_config.json); {remedy}")
    first, second = _backbone(depth), _backbone(segment)
    if type(first) is not type(second) or _settings(depth) != _settings(segment):
        raise ModelError(f"{names} have backbones of different kinds; {remedy}")
    theirs = second.state_dict()
    for name, tensor in first.state_dict().items():
        if "mask_token" in name:  # only pretraining uses it
            continue
        if name not in theirs or not torch.equal(tensor, theirs[name]):
            raise ModelError(f"{names} have different backbones ({name} differs); {remedy}")


def _backbone(loaded: LoadedModel) -> nn.Module:
    model: Any = loaded.model
    found: nn.Module = model.dpt if model.backbone is None else model.backbone
    return found


def _settings(loaded: LoadedModel) -> Any:
    """What decides which features the backbone hands out."""
    config: Any = loaded.model.config
    if config.backbone_config is not None and not getattr(config, "is_hybrid", False):
        return config.backbone_config.to_dict()
    return config.taps, config.patch_size, config.hidden_size


def open_together(
    model: str | Path | LoadedModel,
    segment_model: str | Path | LoadedModel,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
    gives: str | None = None,
    optimized: bool = True,
    size: int | tuple[int, int] | None = None,
    options: Options | None = None,
) -> TogetherPipeline:
    """Load two models that share a backbone. The arguments are those of `open_pipeline`.

    Raises ModelError where they do not.
    """
    shared: dict[str, Any] = {"device": device, "dtype": dtype, "offline": offline, "size": size}
    shared["optimized"] = False  # the plain backbones are compared first
    depth = open_pipeline(model, task="depth", gives=gives, options=options, **shared)
    segment = open_pipeline(segment_model, task="segment", **shared)
    depth.clock.seconds["load"] += segment.clock.seconds["load"]
    return TogetherPipeline(
        depth.loaded, segment.loaded, optimized=optimized, options=options, clock=depth.clock
    )
