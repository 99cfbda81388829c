"""Where a network's time goes, by kind of operation, as PyTorch's profiler measures it.

The plain network and our cheaper forms call other operators for the same work, so an operator
counts towards the module that it works for where that is a convolution, a linear layer or a growing
map, and else by its own name.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from dptcli.fast.int8 import Int8Linear
from dptcli.fast.kernels import ConvLinear, JoinedLinear, MklLinear, PackedConv2d, PackedLinear
from dptcli.fast.tensorcores import ConvRelu, LinearGelu
from dptcli.fast.winograd import WinogradConv2d
from dptcli.model.layers import GrowBilinear

_MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "convolutions": (nn.Conv2d, nn.ConvTranspose2d, PackedConv2d, WinogradConv2d, ConvRelu),
    "linear layers": (
        nn.Linear,
        PackedLinear,
        JoinedLinear,
        ConvLinear,
        MklLinear,
        LinearGelu,
        Int8Linear,
    ),
    "upsampling": (GrowBilinear,),
}
# The first kind counts of which a part is in the operator's name.
_OPERATORS: dict[str, tuple[str, ...]] = {
    "softmax": ("softmax",),
    "attention in one pass": ("attention",),
    "upsampling": ("upsample", "grid_sample"),
    "convolutions": ("conv", "thnn", "slow_"),
    "linear layers": ("linear", "addmm"),
    "products of attention": ("bmm", "::mm", "matmul"),
    "normalisation": ("norm",),
    "copies": ("copy", "cat", "clone", "contiguous", "pad"),
    "sums and activations": ("add", "mul", "sub", "div", "relu", "gelu", "clamp", "sigmoid", "exp"),
}
OTHER = "other"
_MARK = "dpt: "


def profiled(model: nn.Module, run: Callable[[], object], *, on_gpu: bool) -> dict[str, float]:
    """Run the model once more and return the seconds by kind of operation, most first.

    Of a GPU's time where on_gpu, else of the thread that runs the operators. Run it warm.
    """
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if on_gpu else []
    with _marked(model), profile(activities=activities) as found:
        run()
        if on_gpu:
            torch.cuda.synchronize()
    spent: Counter[str] = Counter()
    for event in found.events() or ():
        if event.device_type.name != "CPU":
            continue  # a kernel, whose time its operator has
        own_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if own_us > 0:
            spent[_kind(event)] += own_us / 1e6
    return dict(spent.most_common())


def _kind(event: Any) -> str:
    """The kind of an operator, by the module that it works for, or its name."""
    around = event
    while around is not None:
        if around.name.startswith(_MARK):
            return str(around.name.removeprefix(_MARK))
        around = around.cpu_parent
    return kind_of_operator(event.name)


def kind_of_operator(name: str) -> str:
    """The kind of an operator that stands in no module of a kind of its own."""
    for kind, parts in _OPERATORS.items():
        if any(part in name for part in parts):
            return kind
    return OTHER


@contextmanager
def _marked(model: nn.Module) -> Iterator[None]:
    """Let the profiler see, as long as the block lasts, which modules are at work."""
    open_marks: list[Any] = []

    def enter(kind: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _given: object) -> None:
            open_marks.append(record_function(f"{_MARK}{kind}"))
            open_marks[-1].__enter__()

        return hook

    def leave(_module: nn.Module, _given: object, _output: object) -> None:
        open_marks.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for module in model.modules():
            for kind, classes in _MODULES.items():
                if isinstance(module, classes):
                    hooks.callback(module.register_forward_pre_hook(enter(kind)).remove)
                    hooks.callback(module.register_forward_hook(leave).remove)
        yield
