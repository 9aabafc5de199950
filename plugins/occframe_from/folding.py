"""Batch norms folded into the layer before or behind them, where that changes nothing but rounding.

A batch norm behind a convolution always folds. One in front of a zero-padded convolution does not: the padding is zero
after the normalisation, so the border would see another mean. Those stay.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from occframe_from.heads import NormedLinear


def fold_trunk(trunk: nn.Module) -> None:
    """Fold, in place, every batch norm whose input is a convolution that nothing else reads.

    Which those are is read from the traced ``forward_features``; a trunk that cannot be traced is left as it is.
    """
    try:
        with torch.no_grad():  # with gradients a trunk may run in a form made for training
            graph = _Tracer().trace(_Features(trunk))
    except Exception:  # anything may be in a stranger's forward, and then there is only no gain
        return
    modules = dict(trunk.named_modules())
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        names = str(source.target).removeprefix("trunk."), str(node.target).removeprefix("trunk.")
        conv, norm = (modules[name] for name in names)
        alone = len(source.users) == 1 and calls[str(source.target)] == calls[str(node.target)] == 1
        if alone and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            _fold_into(conv, norm)
            parent, _, attribute = names[1].rpartition(".")
            setattr(modules[parent], attribute, nn.Identity())


def fold_head(head: NormedLinear) -> nn.Module:
    """Batch norm, linear, batch norm -> one linear layer that flattens first."""
    before, _, linear, after = head
    assert isinstance(linear, nn.Linear)
    scale, shift = _affine(before)
    weight = linear.weight.detach().double()
    bias = weight @ shift + (0 if linear.bias is None else linear.bias.detach().double())
    weight = weight * scale
    scale, shift = _affine(after)
    weight, bias = weight * scale[:, None], bias * scale + shift
    folded = FlatLinear(linear.in_features, linear.out_features).to(linear.weight)
    folded.weight.data.copy_(weight)
    folded.bias.data.copy_(bias)
    return folded


class FlatLinear(nn.Linear):
    """[B, …] -> [B, out], in the precision of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(torch.flatten(x, 1).to(self.weight.dtype))


class _Features(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.trunk.forward_features(images)  # type: ignore[operator]
        return maps


class _Tracer(fx.Tracer):
    """Looks into every module that is not torch's own."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return module.__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift, float64, of a batch norm in evaluation mode."""
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def _fold_into(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale, shift = _affine(norm)
    bias = shift if conv.bias is None else shift + conv.bias.detach().double() * scale
    weight = conv.weight.detach().double() * scale.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
