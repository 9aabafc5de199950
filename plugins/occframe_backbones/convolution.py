"""Convolutions in front of a batch norm, in the forms that train fastest; each gives what the plain form gives, but for
rounding."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that ``norm(conv(x))`` is while the norm keeps its statistics.

    Gradients reach the weights of both, so that training saves the norm's two passes over every map and loses nothing.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    return conv.weight * scale.view(-1, 1, 1, 1), bias


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``conv`` with another weight and bias."""
    strided_depthwise = conv.groups > 1 and conv.stride != (1, 1) and x.device.type == "cpu"
    if strided_depthwise and torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        parts = [None if part is None else part.to(dtype) for part in (x, weight, bias)]
        return cast(Tensor, _Strided.apply(*parts, conv.stride, conv.padding, conv.groups))
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


class _Strided(torch.autograd.Function):
    """A convolution whose backward pass is that of stride 1, with the gradient's gaps filled by zeros.

    oneDNN's own backward pass of a depthwise convolution with a stride takes six times as long, and the three of
    MobileFaceNet a third of a whole training step (torch 2.13, AVX-512).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, groups: int
    ) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.stride, ctx.padding, ctx.groups = bias is not None, stride, padding, groups
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        size = [x.shape[at] + 2 * ctx.padding[at - 2] - weight.shape[at] + 1 for at in (2, 3)]
        spread = torch.zeros(*gradient.shape[:2], *size, dtype=gradient.dtype).contiguous(
            memory_format=torch.channels_last
        )
        spread[:, :, :: ctx.stride[0], :: ctx.stride[1]] = gradient
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            spread, x, weight, None, [1, 1], ctx.padding, [1, 1], False, [0, 0], ctx.groups, needed
        )
        of_bias = gradient.sum((0, 2, 3)) if ctx.has_bias else None
        return of_x, of_weight, of_bias, None, None, None
