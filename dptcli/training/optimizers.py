"""What moves the weights: AdamW, or Muon for the filters and AdamW for the rest."""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from dptcli.errors import UsageError
from dptcli.training.batches import TrainOptions
from dptcli.training.twins import Learner, backbone_of


def make_optimizers(model: Learner, options: TrainOptions) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of a run; each group's "base" is its learning rate without a schedule.

    options.optimizer "muon": filters of neck and head (O, I, k, k) move by Muon, at the same
    learning rate, since its steps are as large as AdamW's.
    """
    backbone = backbone_of(model)
    inside = {id(parameter) for parameter in backbone.parameters()}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    backbone.requires_grad_(not options.is_frozen)
    if options.backbone_from > 0 and not options.is_frozen:
        _keep_first_blocks(backbone, options.backbone_from)
    by_muon = [value for value in rest if options.optimizer == "muon" and _is_filter(value)]
    chosen = {id(parameter) for parameter in by_muon}
    rest = [parameter for parameter in rest if id(parameter) not in chosen]
    groups: list[dict[str, Any]] = [{"params": rest, "base": options.learning_rate}]
    if not options.is_frozen:
        learning = [value for value in backbone.parameters() if value.requires_grad]
        groups.append({"params": learning, "base": options.backbone_rate})
    common: dict[str, Any] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    adamw = torch.optim.AdamW(groups, **common)
    if not by_muon:
        return (adamw,)
    return (Muon([{"params": by_muon, "base": options.learning_rate}], **common), adamw)


def _keep_first_blocks(backbone: nn.Module, count: int) -> None:
    """Keep the embeddings and the first `count` blocks of a plain ViT as they are."""
    encoder = getattr(backbone, "encoder", None)
    blocks = getattr(encoder, "layer", None)
    if not isinstance(blocks, nn.ModuleList) or not 0 < count < len(blocks):
        raise UsageError(
            f"backbone_from: {count} must be below the number of the backbone's blocks"
            + (
                f", {len(blocks)}"
                if isinstance(blocks, nn.ModuleList)
                else "; it has none to count"
            )
        )
    for part in (cast(nn.Module, backbone.embeddings), *blocks[:count]):
        part.requires_grad_(False)


def _is_filter(value: nn.Parameter) -> bool:
    return value.dim() == 4 and len(value) > 1  # the last layer's single output is no matrix


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: a step moves every direction of a filter bank equally far.

    Jordan et al. 2024; the scale of the steps and the decay are Liu et al. 2025's ("Muon is
    scalable for LLM training"). torch.optim.Muon takes matrices alone and computes in bfloat16,
    which a processor without it does slowly; filters (O, I, k, k) are matrices (O, I·k·k) here.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient. closure: not taken."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])  # Nesterov's
                matrix = ahead.reshape(len(ahead), -1)
                # A step as large as AdamW's, whose entries are about .2 each.
                size = group["lr"] * 0.2 * math.sqrt(max(matrix.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(orthogonalized(matrix).reshape(ahead.shape), alpha=size)


def orthogonalized(matrix: Tensor, *, num_steps: int = 5) -> Tensor:
    """Near U V^T of a matrix U S V^T (m, n): singular values between about .7 and 1.2.

    Newton-Schulz with the coefficients of Jordan et al. 2024, which grow small values fastest.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).float()
    x = x / (x.norm() + 1e-7)
    for _ in range(num_steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if is_tall else x
