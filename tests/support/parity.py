"""What the parity tests share: random weights everywhere, and a difference relative to the size."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dptcli import DPTForDepthEstimation

# parity.md: in float32, the largest difference relative to the largest reference value.
TOLERANCE = 1e-4
# test function -> the largest relative difference it saw; conftest prints it after the run.
largest_seen: dict[str, float] = {}


def bare(model_class: Any, config: Any) -> Any:
    """The reference's model without first weights, for `randomize`: at full size they take 15 s."""
    from transformers.initialization import no_init_weights  # its package takes a second

    with no_init_weights():
        return model_class(config)


def randomize(model: nn.Module, *, seed: int, std: float = 0.1) -> nn.Module:
    """Give every parameter and running statistic a random value, then switch to eval mode.

    First weights would hide mistakes: zero biases, zero class tokens, unit statistics.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * std)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        depth_head = getattr(getattr(model, "head", None), "head", ())
        if (
            isinstance(depth_head, nn.Sequential | tuple) and len(depth_head) == 6
        ):  # lifts the last ReLU's input, else a random depth is all zero
            depth_head[4].bias.fill_(1.0)
    return model.eval()


def difference(ours: Tensor, reference: Tensor) -> float:
    """max |ours - reference| / max |reference|; shapes must agree."""
    assert ours.shape == reference.shape
    assert reference.abs().max() > 0, "an all-zero reference proves nothing"
    return float((ours - reference).abs().max() / reference.abs().max())


def assert_close(ours: Tensor, reference: Tensor) -> None:
    """Refuse a difference beyond the parity bound."""
    found = difference(ours.float(), reference.float())
    test = os.environ["PYTEST_CURRENT_TEST"].split("[")[0].split(" ")[0]
    largest_seen[test] = max(found, largest_seen.get(test, 0.0))
    assert found <= TOLERANCE, f"relative difference {found:.2e} of a {tuple(ours.shape)}"


def load_reference(model_class: Any, folder: Path) -> nn.Module:
    """Load with the reference, insisting that no tensor is missing, unexpected or misshapen."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def pixels(values: dict[str, Any], hw: tuple[int, int], *, batch: int = 2) -> Tensor:
    """Random normalised pixels (B, C, H, W) for a backbone's configuration."""
    generator = torch.Generator().manual_seed(sum(hw))
    return torch.randn(batch, values.get("num_channels", 3), *hw, generator=generator)


def assert_depth_equal_both_ways(
    reference: Any, *inputs: Tensor, folder: Path, model_class: Any = DPTForDepthEstimation
) -> Any:
    """Ours reads what the reference wrote, the reference what we wrote, and all maps agree.

    inputs: what both take by position. Returns ours, as it read the reference's files.
    """
    return assert_depths_equal_both_ways(
        reference, [inputs], folder=folder, model_class=model_class
    )


def assert_depths_equal_both_ways(
    reference: Any,
    many: Iterable[tuple[Tensor, ...]],
    *,
    folder: Path,
    model_class: Any = DPTForDepthEstimation,
) -> Any:
    """As assert_depth_equal_both_ways for many inputs: writing and reading takes most of it."""
    reference.save_pretrained(folder / "theirs")
    ours = model_class.from_pretrained(folder / "theirs")
    ours.save_pretrained(folder / "ours")
    back = load_reference(type(reference), folder / "ours")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    for inputs in many:
        expected, found = reference(*inputs, **wanted), ours(*inputs, **wanted)
        assert_close(found.predicted_depth, expected.predicted_depth)
        assert_close(ours(*inputs).predicted_depth, expected.predicted_depth)  # fused attention
        for name in ("hidden_states", "attentions"):
            for mine, theirs in zip(found[name], expected[name], strict=True):
                assert_close(mine, theirs)
        assert_close(back(*inputs).predicted_depth, expected.predicted_depth)
    return ours
