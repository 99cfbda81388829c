"""What the network is asked about samples: whole pictures, tiles of them, a panorama's views."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dptcli.running.answer import Answer
from dptcli.running.ending import depth_of_view, without_padding
from dptcli.running.network import Network
from dptcli.running.options import Options
from dptcli.running.preparing import prepare_view
from dptcli.running.seen import Sample, view_of
from dptcli.weights.load import LoadedModel


def ask(
    network: Network, samples: Sequence[Sample], loaded: LoadedModel, options: Options
) -> list[Answer]:
    """Run the network on samples of one shape.

    loaded: the network's model, seeing pictures at the size that was asked for.
    """
    first = samples[0]
    if first.sphere is not None:
        return [_of_sphere(network, sample, loaded, options) for sample in samples]
    if first.tile_hw is not None:
        return [_tiled(network, sample) for sample in samples]
    return network.run([sample.view for sample in samples])


def _tiled(network: Network, sample: Sample) -> Answer:
    overview = sample.overview
    assert sample.tile_hw is not None
    assert overview is not None
    [whole] = network.run([view_of(overview, sample.prompt_m)])
    whole = replace(whole, maps=without_padding(whole.maps, overview, network.loaded))
    return network.run_tiled(sample.view, whole, tile_hw=sample.tile_hw)


def _of_sphere(network: Network, sample: Sample, loaded: LoadedModel, options: Options) -> Answer:
    """The depth of each of a panorama's views (N, h, w), a batch of them at a time."""
    assert sample.sphere is not None
    keep_sky = options.sky == "keep"
    depths: list[Tensor] = []
    while len(depths) < (count := len(sample.sphere.views)):
        batch = range(len(depths), count)[: max(1, network.sizes.of(sample.shape[1:]))]
        views = [prepare_view(sample, number, loaded, options) for number in batch]
        for answer, view in zip(ask(network, views, loaded, options), views, strict=True):
            depths.append(depth_of_view(answer, view, loaded, keep_sky=keep_sky))
    return Answer(torch.stack(depths))
