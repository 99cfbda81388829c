"""DINOv2 that sees one scene from several sides (Lin et al. 2025): blocks within and across views.

From `views_start` on every odd block attends over the tokens of all views together, the others
within each view; there queries and keys are normalised and turned by their places, and a camera
token takes the class token's place. One view alone is a scene of one.
B scenes, S views of each, N tokens of a view (the class or camera token first), D width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.backbones.plain_config import Dinov2ViewsConfig
from dptcli.model.backbones.rotary import GridRotation, NormedRotaryAttention, rotation_of
from dptcli.model.backbones.vit import Dinov2Backbone, Dinov2Layer, Encoder, Passed
from dptcli.model.layers import FeatureMap, Features, map_from_tokens, mask_for_layers

MIN_VIEWS_TO_CHOOSE = 3
"""From so many views on the reference is chosen; of fewer it is the first."""


@dataclass(frozen=True)
class Scene:
    """What the blocks of one run share.

    camera_tokens: (1, 2, D), the reference's and the others'. given: instead of these the tokens of
    cameras that are known (B, S, D), the first one the reference. within, across: how tokens turn
    in a block within each view (N, d) and in one across views (S·N, d).
    """

    num_views: int
    camera_tokens: Tensor
    given: Tensor | None
    within: GridRotation
    across: GridRotation

    @property
    def chooses(self) -> bool:
        """Whether the views' own tokens say which of them is the reference."""
        return self.given is None and self.num_views >= MIN_VIEWS_TO_CHOOSE


class ViewsEncoder(Encoder):
    """Blocks within each view, and from `start` on odd ones across all views of a scene."""

    def __init__(self, layers: Iterable[nn.Module], *, num_heads: int, start: int) -> None:
        super().__init__(layers, num_heads=num_heads)
        self.start = start

    def forward(  # type: ignore[override]  # the scene is not optional
        self,
        x: Tensor,
        *,
        taps: Sequence[int],
        scene: Scene,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Passed:
        """Run the blocks on tokens x (B·S, N, D).

        As run_blocks, with {tap: (B·S, N, 2·D)}: the state after the last block within views, and
        that after the tap's. Weights are (B·S, A, N, N) within and (B, A, S·N, S·N) across.
        """
        masks = mask_for_layers(head_mask, len(self.layer), self.num_heads)
        tapped = {-1: torch.cat((x, x), dim=-1)} if -1 in taps else {}
        states, weights = [x], []
        local, order = x, None
        for index, layer in enumerate(self.layer):
            if index == self.start - 1 and scene.chooses:
                order = reference_first(x[:, 0].unflatten(0, (-1, scene.num_views)))
                x = in_order(x, order)
            if index == self.start:
                x = local = self._with_camera(x, scene)
            turned = {} if index < self.start else {"rotation": scene.within}
            across = index >= self.start and index % 2 == 1
            if across:
                turned, shape = {"rotation": scene.across}, x.shape
                x = x.reshape(-1, scene.num_views * shape[1], shape[2])  # -> (B, S·N, D)
            x, layer_weights = layer(x, head_mask=masks[index], need_weights=need_weights, **turned)
            if across:
                x = x.reshape(shape)  # (B, S·N, D) -> (B·S, N, D)
            else:
                local = x
            if index in taps:
                tapped[index] = _as_given(torch.cat((local, x), dim=-1), order)
            if need_states:
                states.append(_as_given(x, order))
            if layer_weights is not None:
                weights.append(layer_weights)
        all_states = tuple(states) if need_states else None
        return tapped, _as_given(x, order), all_states, tuple(weights) if need_weights else None

    def _with_camera(self, x: Tensor, scene: Scene) -> Tensor:
        """(B·S, N, D) with camera tokens for class tokens; the first view is the reference."""
        tokens = scene.given
        if tokens is None:
            reference, other = scene.camera_tokens.split(1, dim=1)  # (1, 1, D) each
            tokens = torch.cat((reference, other.expand(-1, scene.num_views - 1, -1)), dim=1)
            tokens = tokens.expand(x.shape[0] // scene.num_views, -1, -1)
        tokens = tokens.to(x.dtype).reshape(-1, 1, x.shape[-1])  # (B, S, D) -> (B·S, 1, D)
        return torch.cat((tokens, x[:, 1:]), dim=1)


def reference_first(class_tokens: Tensor) -> Tensor:
    """Which view is the reference, by class tokens (B, S, D): the indices (B, S), it before all.

    It is the view that is nearest to the middle between the scene's extremes in three things: how
    like its class token is to the others', how long it is, and how much its entries vary.
    """
    class_tokens = class_tokens.float()  # a narrow dtype would decide between like views by chance
    length = class_tokens.norm(dim=-1, keepdim=True)
    unit = class_tokens / length
    num_views = class_tokens.shape[1]
    likeness = ((unit @ unit.transpose(1, 2)).sum(dim=-1) - 1) / (num_views - 1)
    off_middle = sum(
        (_to_unit_range(measure) - 0.5).abs()
        for measure in (likeness, length.squeeze(-1), unit.var(dim=-1))
    )
    assert isinstance(off_middle, Tensor)
    chosen = off_middle.argmin(dim=1, keepdim=True)  # (B, 1)
    views = torch.arange(num_views, device=class_tokens.device).expand(len(class_tokens), -1)
    # Sorted by "is not the reference": the reference first, the others as they are.
    return (views != chosen).int().sort(dim=1, stable=True).indices


def _to_unit_range(values: Tensor) -> Tensor:
    """(B, S) -> from 0 to 1 over the views."""
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    return (values - low) / (high - low + 1e-8)


def in_order(x: Tensor, order: Tensor) -> Tensor:
    """Views (B·S, …) in the order of indices (B, S)."""
    num_scenes, num_views = order.shape
    first = torch.arange(num_scenes, device=order.device)[:, None] * num_views
    return x[(first + order).flatten()]


def _as_given(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else in_order(x, order.argsort(dim=1))


class Dinov2ViewsBackbone(Dinov2Backbone):
    """DINOv2 over the views of scenes; its maps are twice as wide as its tokens."""

    config_class = Dinov2ViewsConfig
    config: Dinov2ViewsConfig

    def __init__(self, config: Dinov2ViewsConfig) -> None:
        super().__init__(config)
        self.camera_tokens = nn.Parameter(torch.zeros(1, 2, config.hidden_size))

    def build_encoder(self, config: Dinov2ViewsConfig) -> Encoder:  # type: ignore[override]
        layers = (
            Dinov2Layer(config, attention=_attention(config, block))
            for block in range(config.num_hidden_layers)
        )
        return ViewsEncoder(layers, num_heads=config.num_attention_heads, start=config.views_start)

    @property
    def channels(self) -> list[int]:
        return [self.config.map_width for _ in self.out_features]

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
        num_views: int = 1,
        camera_tokens: Tensor | None = None,
    ) -> Features:
        """(B·S, C, H, W) -> one FeatureMap (B·S, 2·D, h, w) for each stage of `out_features`.

        num_views: S. camera_tokens: of cameras that are known (B, S, D). The readout is the camera
        token; of each map the second half is normalised. Raises ShapeError for images that are not
        whole scenes.
        """
        if num_views < 1 or len(pixel_values) % num_views:
            raise ShapeError(
                f"pixel_values: {len(pixel_values)} images are not scenes of {num_views} views"
            )
        x, grid_hw = self.embeddings(pixel_values)
        scene = self._scene(grid_hw, num_views, camera_tokens, x.device)
        taps = self.taps
        tapped, _, states, weights = self.encoder(
            x,
            taps=taps,
            scene=scene,
            head_mask=head_mask,
            need_weights=need_weights,
            need_states=need_states,
        )
        maps = [self._map(tapped[tap], grid_hw) for tap in taps]
        return Features(maps, hidden_states=states, attentions=weights)

    def _map(self, tokens: Tensor, grid_hw: tuple[int, int]) -> FeatureMap:
        local, both = tokens.chunk(2, dim=-1)
        normed = torch.cat((local, self.layernorm(both)), dim=-1)
        return map_from_tokens(normed, grid_hw)._replace(readout=tokens[:, 0])

    def _scene(
        self,
        grid_hw: tuple[int, int],
        num_views: int,
        given: Tensor | None,
        device: torch.device,
    ) -> Scene:
        config = self.config
        # The camera token stands at (0, 0), patches from (1, 1) on. Across views no patch has a
        # place: all stand at (1, 1).
        rows = torch.arange(1, grid_hw[0] + 1, device=device)
        columns = torch.arange(1, grid_hw[1] + 1, device=device)
        patches = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        places = torch.cat((torch.zeros_like(patches[:1]), patches))
        within, across = (
            rotation_of(where, head_width=config.head_width, base=config.rotary_base)
            for where in (places, places.clamp(max=1))
        )
        return Scene(num_views, self.camera_tokens, given, within, across.repeated(num_views))


def _attention(config: Dinov2ViewsConfig, block: int) -> NormedRotaryAttention | None:
    if block < config.views_start:
        return None
    return NormedRotaryAttention(
        width=config.hidden_size,
        num_heads=config.num_attention_heads,
        qkv_bias=config.qkv_bias,
        dropout=config.attention_probs_dropout_prob,
    )
