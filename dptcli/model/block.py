"""A block of a network: the unit that gradient checkpointing computes anew."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """One of the like blocks that a backbone is a stack of.

    checkpoint_options: while training, keep no activations of the block and compute them anew for
    the gradients, with these options of torch.utils.checkpoint.checkpoint. None keeps them.
    """

    checkpoint_options: Mapping[str, Any] | None = None

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        kept = self.checkpoint_options
        if kept is None or not self.training or not torch.is_grad_enabled():
            return super().__call__(*inputs, **options)
        return checkpoint(super().__call__, *inputs, **kept, **options)
