"""The forms of convolutions for training give what the plain ones give, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from occframe_backbones.convolution import convolve
from occframe_backbones.mobilefacenet import ConvUnit


def unit(**options) -> ConvUnit:
    made = ConvUnit(8, 8, activation=nn.PReLU, **options).double()
    generator = torch.Generator().manual_seed(2)
    for tensor in (*made.norm.parameters(), made.norm.running_mean, made.norm.running_var):
        tensor.data = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5
    return made


def plainly(made: ConvUnit, x: torch.Tensor) -> torch.Tensor:
    return made.act(made.norm(made.conv(x)))


SHAPES = [
    {"kernel": 1},
    {"kernel": 3, "padding": 1, "groups": 8},
    {"kernel": 3, "padding": 1, "groups": 8, "stride": 2},
    {"kernel": 3, "padding": 1, "groups": 8, "stride": 2, "bias": True},
    {"kernel": (4, 3), "groups": 8, "stride": 2, "bias": True},
    {"kernel": 5, "padding": 2, "stride": 2, "bias": True},
]


@pytest.mark.parametrize("size", [(9, 12), (8, 7)])
@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("statistics", ["learn", "keep"])
def test_output_and_all_gradients_are_those_of_the_plain_form(options, size, statistics):
    ours = unit(**options).train(statistics == "learn")
    theirs = copy.deepcopy(ours)
    images = torch.randn(3, 8, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mine, other = images.clone().requires_grad_(), images.clone().requires_grad_()
    made, expected = ours(mine), plainly(theirs, other)
    torch.testing.assert_close(made, expected)
    along = torch.randn(made.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (made * along).sum().backward()
    (expected * along).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad)
    for (name, one), another in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, another.grad, msg=name)
    torch.testing.assert_close(ours.norm.running_var, theirs.norm.running_var)


def test_a_strided_depthwise_convolution_under_autocast_keeps_weights_and_gradients_in_float32():
    conv = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        made = convolve(conv, x, conv.weight, conv.bias)
    made.float().square().sum().backward()
    assert made.dtype == torch.bfloat16
    assert {x.grad.dtype, conv.weight.grad.dtype, conv.bias.grad.dtype} == {torch.float32}
    of_x, of_weight = x.grad.clone(), conv.weight.grad.clone()
    x.grad = conv.weight.grad = None
    conv(x).square().sum().backward()
    torch.testing.assert_close(of_x, x.grad, rtol=0.05, atol=0.05)
    torch.testing.assert_close(of_weight, conv.weight.grad, rtol=0.05, atol=0.3)


def test_a_frozen_convolution_passes_gradients_on():
    made = unit(kernel=3, padding=1, groups=8, stride=2).eval().requires_grad_(False)
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64, requires_grad=True)
    made(x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
