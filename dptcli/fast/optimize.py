"""The same function, cheaper: what a loaded model may leave out, join, move or pack beforehand.

Each step stands on its own and changes results by rounding alone; `tests/fast/test_optimize.py`
compares every step with the plain model. An optimised model predicts: it neither trains nor is
saved, and hands out no hidden states.

B batch, N tokens, D width, C channels, h×w patches.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.fast.kernels import (
    FEW_HEADS_TOKENS,
    MAX_SIZES,
    JoinedLinear,
    Kernels,
    attend_few_heads,
    kernels_for,
)
from dptcli.fast.memory import clean_file_ranges, let_go
from dptcli.fast.packing import pack
from dptcli.fast.surgery import become, linear_of, replace_modules
from dptcli.fast.tensorcores import use_tensor_cores
from dptcli.fast.winograd import winograd
from dptcli.model.backbones.beit import BeitLayer
from dptcli.model.backbones.dinov3 import DINOv3ViTBackbone
from dptcli.model.backbones.hybrid import StandardizedConv, pad_same
from dptcli.model.backbones.vit import Encoder, LayerScale, ScaledBlock, ViTEmbeddings
from dptcli.model.dpt import DensePredictor, DPTForSemanticSegmentation, DPTModel
from dptcli.model.layers import FeatureMap, MultiHead
from dptcli.model.neck import FusionBlock, FusionStage, ReassembleStage, ResidualConvUnit

Step = Callable[[nn.Module, Kernels], None]
Stack = Encoder | DINOv3ViTBackbone


def optimize(
    model: nn.Module,
    *,
    steps: Sequence[str] | None = None,
    kernels: Kernels | None = None,
    int8: bool = False,
) -> nn.Module:
    """Make a model in eval mode cheaper, in place, and return it.

    steps: names of STEPS, in any order; None is all of them. kernels: the forms to use, else those
    of its first parameter's device and dtype. int8: linear layers in 8 bits, see `int8.py`; this
    alone changes results by more than rounding.
    """
    first = next(model.parameters())
    kernels = kernels or kernels_for(first.device, first.dtype)
    if int8:
        kernels = replace(kernels, linear="int8")
    clean_file_ranges.cache_clear()  # this model's file may be a new one
    chosen = STEPS if steps is None else {name: STEPS[name] for name in STEPS if name in steps}
    with torch.no_grad():
        for step in chosen.values():
            step(model, kernels)
    return model.requires_grad_(False)


def leave_out(model: nn.Module, _kernels: Kernels) -> None:
    """Blocks after the last tap, and modules that no prediction passes through."""
    for module in model.modules():
        if isinstance(module, DensePredictor) and module.dpt is not None:
            _cut(module.dpt.encoder, module.config.taps)
            module.dpt.add_module("layernorm", nn.Identity())
            module.dpt.pooler = None
        # DINOv3's blocks stand beside its embeddings.
        stack = (
            module if isinstance(module, DINOv3ViTBackbone) else getattr(module, "encoder", None)
        )
        stages = _stages_of(module)
        if isinstance(stack, Stack) and stages and not isinstance(module, DPTModel):
            _cut(stack, [stage - 1 for stage in stages])
        if isinstance(module, DPTForSemanticSegmentation):
            module.auxiliary_head = None
        if isinstance(module, FusionStage):
            module.layers[0].residual_layer1 = nn.Identity()  # the deepest map meets no skip


def _stages_of(module: nn.Module) -> Sequence[int]:
    return getattr(getattr(module, "config", None), "out_indices", None) or ()


def _cut(stack: Stack, taps: Sequence[int]) -> None:
    stack.layer = stack.layer[: max(taps) + 1]


def fold_batch_norm(model: nn.Module, _kernels: Kernels) -> None:
    """Batch norm into the convolution before it: both are linear once training is over."""
    for module in model.modules():
        if isinstance(module, ResidualConvUnit):
            for conv, norm in (("convolution1", "batch_norm1"), ("convolution2", "batch_norm2")):
                _fold(module, conv, norm)
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                _fold(module, str(index), str(index + 1))


def _fold(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        return
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    bias = 0.0 if conv.bias is None else conv.bias.float()
    bias = (bias - norm.running_mean.float()) * factor + norm.bias.float()
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.float() * factor[:, None, None, None]).to(dtype))
    conv.bias = nn.Parameter(bias.to(dtype))
    setattr(parent, norm_name, nn.Identity())


def fold_layer_scale(model: nn.Module, _kernels: Kernels) -> None:
    """The learned factor of a residual branch into the product that ends the branch."""
    for module in model.modules():
        if isinstance(module, ScaledBlock):
            attended, widened = module.branch_ends()
            _scale_rows(attended, module.layer_scale1.lambda1)
            _scale_rows(widened, module.layer_scale2.lambda1)
    for module in model.modules():
        if isinstance(module, BeitLayer) and module.lambda_1 is not None:
            assert module.lambda_2 is not None
            _scale_rows(module.attention.output.dense, module.lambda_1)
            _scale_rows(module.output.dense, module.lambda_2)
            module.lambda_1 = module.lambda_2 = None
    replace_modules(model, lambda module: nn.Identity() if isinstance(module, LayerScale) else None)


def _scale_rows(linear: object, factor: Tensor) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight = nn.Parameter(linear.weight * factor[:, None])
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias * factor)


def keep_positions(model: nn.Module, _kernels: Kernels) -> None:
    """Position embeddings resized once for each of the last grids, not for every image."""
    for module in model.modules():
        if isinstance(module, ViTEmbeddings):
            setattr(module, "kept", OrderedDict())  # noqa: B010 - no parameter, nor a module
            become(module, _KeptPositions)


class _KeptPositions(ViTEmbeddings):
    kept: OrderedDict[tuple[int, int], Tensor]

    def positions(self, grid_hw: tuple[int, int]) -> Tensor:
        found = self.kept.pop(grid_hw, None)
        if found is None:
            found = super().positions(grid_hw)
            if len(self.kept) == MAX_SIZES:
                self.kept.popitem(last=False)
        self.kept[grid_hw] = found
        return found


def standardize_filters(model: nn.Module, _kernels: Kernels) -> None:
    """The hybrid's filters, which the plain form standardises anew for every image."""
    replace_modules(
        model, lambda module: _FixedConv(module) if isinstance(module, StandardizedConv) else None
    )


class _FixedConv(nn.Module):
    """A StandardizedConv whose filters are standardised already."""

    def __init__(self, conv: StandardizedConv) -> None:
        super().__init__()
        self.same, self.kernel, self.stride = conv.same, conv.kernel_size[0], conv.stride[0]
        self.dilation = conv.dilation[0]
        self.conv = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            self.kernel,
            stride=self.stride,
            padding=conv.padding,  # type: ignore[arg-type]  # what it was built with
            dilation=self.dilation,
            bias=False,
            device="meta",  # until its filters come
        )
        self.conv.weight = nn.Parameter(conv.standardized())

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W')."""
        if self.same:
            x = pad_same(x, kernel=self.kernel, stride=self.stride, dilation=self.dilation)
        return self.conv(x)


def join_heads(model: nn.Module, kernels: Kernels) -> None:
    """Query, key and value in one product; and a few heads at a time where that is faster."""
    for module in model.modules():
        if not isinstance(module, MultiHead):
            continue
        parts = [module.get_submodule(name) for name in module.products]
        module.joined = JoinedLinear([part for part in parts if isinstance(part, nn.Linear)])
        for name in module.products:
            delattr(module, name)
        if kernels.few_heads:
            become(module, _FewHeads)
        become(module, _JoinedHeads)


def unjoined_attentions(model: nn.Module) -> dict[str, int]:
    """{class: how many} of a plain model's attentions that have no form of ours.

    Those with query, key and value of their own, told by three square products of one width.
    """
    found: Counter[str] = Counter()
    for module in model.modules():
        widths = [
            part.in_features
            for part in module.children()
            if isinstance(part, nn.Linear) and part.in_features == part.out_features
        ]
        if not isinstance(module, MultiHead) and len(widths) >= 3 and len(set(widths)) == 1:
            found[type(module).__name__] += 1
    return dict(found)


class _JoinedHeads(MultiHead):
    joined: nn.Module

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> (B, A, N, D/A) each, views of one product."""
        both = self.joined(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, A, D/A)
        query, key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value


class _FewHeads(MultiHead):
    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        bias: Tensor | None = None,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As MultiHead's."""
        is_plain = head_mask is None and not need_weights
        if is_plain and query.shape[2] in FEW_HEADS_TOKENS:
            return attend_few_heads(query, key, value, scale=self.scale, bias=bias), None
        return super().attend(
            query, key, value, bias=bias, head_mask=head_mask, need_weights=need_weights
        )


def split_readout(model: nn.Module, _kernels: Kernels) -> None:
    """W [patch, readout] as W₁ patch + W₂ readout: the class token is projected once."""
    for module in model.modules():
        if not isinstance(module, ReassembleStage) or module.readout_type != "project":
            continue
        for stage, project in enumerate(module.readout_projects):
            if isinstance(project, nn.Sequential):
                module.readout_projects[stage] = _SplitProject(project)
        become(module, _SplitReadout)


class _SplitProject(nn.Module):
    activation: nn.Module

    def __init__(self, project: nn.Sequential) -> None:
        super().__init__()
        linear, self.activation = project
        assert isinstance(linear, nn.Linear)
        patches, readout = linear.weight.chunk(2, dim=1)
        self.patches = linear_of(patches, None)
        self.readout, self.bias = nn.Parameter(readout), linear.bias

    def forward(self, tokens: Tensor, readout: Tensor) -> Tensor:
        """(B, h·w, D) and (B, D) -> (B, h·w, D)."""
        shared = F.linear(readout, self.readout, self.bias)  # one row: nothing to pack
        return self.activation(self.patches(tokens) + shared.unsqueeze(1))


class _SplitReadout(ReassembleStage):
    def _fold_readout(self, stage: int, feature: FeatureMap) -> Tensor:
        if feature.readout is None:
            return feature.map
        tokens = feature.map.flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, h·w, D)
        folded = self.readout_projects[stage](tokens, feature.readout)
        return folded.transpose(1, 2).reshape(feature.map.shape)  # -> (B, D, h, w)


def project_before_growing(model: nn.Module, _kernels: Kernels) -> None:
    """A fusion block's 1×1 projection before its bilinear ×2: they commute, on a quarter."""
    for module in model.modules():
        if isinstance(module, FusionBlock):
            become(module, _ProjectedFirst)


class _ProjectedFirst(FusionBlock):
    def forward(
        self,
        x: Tensor,
        skip: Tensor | None = None,
        *,
        size: tuple[int, int] | None = None,
        **beside: Tensor | None,
    ) -> Tensor:
        """See FusionBlock.forward."""
        x = self.projection(self.merge(x, skip, **beside))
        return self.grow(x, size)


def channels_last(model: nn.Module, _kernels: Kernels) -> None:
    """Filters with the channels last in memory, as tokens are already; packed ones are so too."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight.contiguous(memory_format=torch.channels_last)
            let_go(module.weight)
            module.weight = nn.Parameter(weight)


STEPS: dict[str, Step] = {
    "leave-out": leave_out,
    "batch-norm": fold_batch_norm,
    "layer-scale": fold_layer_scale,
    "filters": standardize_filters,
    "positions": keep_positions,
    "heads": join_heads,
    "readout": split_readout,
    "fusion": project_before_growing,
    "tensor-cores": use_tensor_cores,
    "winograd": winograd,
    "pack": pack,
    "channels-last": channels_last,
}
"""Name -> step, in the order in which they are taken."""
