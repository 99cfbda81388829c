"""Fit the last layer of a segmentation head to its own features: a linear probe.

A head that learns to tell parts of what it told before begins with rows that are all alike, and
needs hundreds of steps to part them. The layer alone is a convex problem of some thousand numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.training.batches import Batch, Source
from dptcli.training.data import IGNORE_LABEL
from dptcli.training.losses import possible_label_loss
from dptcli.training.twins import feature_maps, segmenter

PIXELS_AN_IMAGE = 300
WEIGHT_DECAY = 1e-5
MAX_ITERATIONS = 150


def fit_last_layer(source: Source, *, batches: int) -> float:
    """Fit the last 1×1 convolution of the source's segmentation head; its loss afterwards.

    batches: how many are drawn from the source, as training would draw them.
    """
    head = segmenter(source.model)
    assert head is not None
    layer = [part for part in head.head.head if isinstance(part, nn.Conv2d)][-1]
    seen = [_features(source, source.batch(step), layer) for step in range(batches)]
    features = torch.cat([part for part, _ in seen])
    labels = torch.cat([part for _, part in seen])[None, :, None]
    groups = source.batch(0).groups
    weight = layer.weight.detach()[:, :, 0, 0].clone().requires_grad_()
    assert layer.bias is not None
    bias = layer.bias.detach().clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        logits = F.linear(features, weight, bias).T[None, :, :, None]
        value = possible_label_loss(logits, labels, groups=groups, ignore_index=IGNORE_LABEL)
        value = value + WEIGHT_DECAY * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    with torch.no_grad():
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.copy_(bias)
    return float(loss().detach())


@torch.no_grad()
def _features(source: Source, batch: Batch, layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """What the layer reads (N, channels) at pixels whose labels (N,) are known."""
    head = segmenter(source.model)
    assert head is not None
    kept: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    was_training = source.model.training
    source.model.eval()
    maps = batch.maps
    if maps is None:
        assert batch.pixel_values is not None
        maps = feature_maps(source.model, batch.pixel_values)
    head.head(head.neck(maps, num_fused=None if batch.level < 0 else batch.level + 1))
    source.model.train(was_training)
    hook.remove()
    [found] = kept
    size = found.shape[-2:]
    labels = F.interpolate(batch.labels[:, None].float(), size=size, mode="nearest-exact")
    values = found.permute(0, 2, 3, 1).flatten(1, 2)
    picked_values, picked_labels = [], []
    for one, told in zip(values, labels.flatten(1).long(), strict=True):
        known = (told != IGNORE_LABEL).nonzero().flatten()
        some = known[torch.randperm(len(known))[:PIXELS_AN_IMAGE]]
        picked_values.append(one[some])
        picked_labels.append(told[some])
    return torch.cat(picked_values), torch.cat(picked_labels)
