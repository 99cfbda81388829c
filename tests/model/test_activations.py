"""Activations by name equal the reference's of that name."""

import pytest
import torch

from dptcli import DPTConfig, DPTModel
from dptcli.model.checks import ACTIVATIONS
from dptcli.model.layers import ActivationLayer

X = torch.linspace(-12, 12, 4001)
OLDER = {"selu"}  # a name of ours alone
WITH_PARAMETERS = {"prelu", "xielu"}  # the reference's, which learn: no model here has them


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in OLDER])
def test_an_activation_equals_the_references_of_its_name(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.activations.ACT2FN[name]
    assert torch.allclose(ActivationLayer(name)(X), theirs(X), rtol=1e-5, atol=2e-6)


def test_every_name_of_the_reference_without_parameters_is_known() -> None:
    transformers = pytest.importorskip("transformers")
    assert set(transformers.activations.ACT2CLS) - WITH_PARAMETERS <= set(ACTIVATIONS)


def test_functions_and_modules_work_as_activations() -> None:
    values = {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 16}
    torch.manual_seed(0)
    by_name = DPTModel(DPTConfig(**values, backbone_out_indices=[0, 1, 2, 3], hidden_act="mish"))
    by_name.eval()
    pixels = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    for activation in (torch.nn.functional.mish, torch.nn.Mish()):
        config = DPTConfig(**values, backbone_out_indices=[0, 1, 2, 3], hidden_act=activation)
        other = DPTModel(config).eval()
        other.load_state_dict(by_name.state_dict())
        found, expected = other(pixels), by_name(pixels)
        assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
