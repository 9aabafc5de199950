from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from occframe.training.optimisers import AdamW, Sgd, build_optimiser


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("config", [Sgd(decay_norm_and_bias=False), AdamW(decay_norm_and_bias=False)])
def test_one_dimensional_weights_can_be_left_undecayed(config) -> None:
    model = network()
    groups = build_optimiser(config, model.parameters()).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert {name: decay[id(parameter)] > 0 for name, parameter in model.named_parameters()} == {
        "0.weight": True,
        "0.bias": False,
        "1.weight": False,
        "1.bias": False,
        "2.weight": False,
        "4.weight": True,
        "4.bias": False,
    }


def test_by_default_everything_that_is_trained_decays() -> None:
    model = network()
    model[0].requires_grad_(False)
    (group,) = build_optimiser(Sgd(), model.parameters()).param_groups
    assert group["weight_decay"] == 5e-4
    assert len(group["params"]) == 5


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (
            Sgd(lr=0.1, nesterov=True),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        ),
        (
            AdamW(lr=0.01, beta2=0.99),
            lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), weight_decay=0.05),
        ),
    ],
)
def test_options_reach_the_optimiser(config, reference) -> None:
    ours, theirs = network(), network()
    optimisers = build_optimiser(config, ours.parameters()), reference(theirs.parameters())
    inputs = torch.randn(4, 3, 3, 3)
    for _ in range(4):
        for model, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            model(inputs).square().sum().backward()
            optimiser.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        Sgd(momentum=0, nesterov=True)
