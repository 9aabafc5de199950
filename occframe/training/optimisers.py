"""Optimisers by configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from occframe.component import Config

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class _Decay(Config):
    decay_norm_and_bias: bool = Field(
        True, description="decay one-dimensional weights too (batch norm, biases, PReLU), as the ArcFace recipes do"
    )


class Sgd(_Decay):
    name: Literal["sgd"] = "sgd"
    lr: float = Field(0.1, gt=0, description="base learning rate, which the schedule multiplies")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum")
    nesterov: bool = Field(False, description="Nesterov's momentum")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay, added to the gradient")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class AdamW(_Decay):
    name: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0, description="base learning rate, which the schedule multiplies")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the running mean of gradients")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the running mean of their squares")
    weight_decay: float = Field(0.05, ge=0, description="weight decay, apart from the gradient")


class Adam(Config):
    """Without weight decay, as adversarial networks are trained."""

    lr: float = Field(2e-4, gt=0, description="learning rate, which the schedule multiplies")
    beta1: float = Field(0.5, ge=0, lt=1, description="decay of the running mean of gradients")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the running mean of their squares")


OptimiserConfig = Annotated[Sgd | AdamW, Field(discriminator="name")]


def build_optimiser(
    config: Sgd | AdamW,
    parameters: Iterable[nn.Parameter],
    *,
    factors: Mapping[nn.Parameter, float] | None = None,
    scaled_gradients: bool = False,
) -> Optimizer:
    """An optimiser over the parameters that require a gradient, in groups of one weight decay and one ``factor``.

    factors: on the learning rate, kept as each group's ``factor``; 1 for parameters that it does not hold.
    scaled_gradients: a gradient scaler will have steps skipped.
    """
    import torch

    factors = factors or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            decayed = config.decay_norm_and_bias or parameter.ndim > 1
            key = config.weight_decay if decayed else 0.0, factors.get(parameter, 1.0)
            groups.setdefault(key, []).append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": members, "weight_decay": decay, "lr": config.lr * factor, "factor": factor}
        for (decay, factor), members in groups.items()
    ]
    # Fused kernels take a half to a quarter of the loop over parameters on a CPU, and are torch's fastest on CUDA.
    if isinstance(config, Sgd):
        # A step that the scaler skips still writes into the momentum of torch's fused SGD, which diverges from there.
        fused = not scaled_gradients
        return torch.optim.SGD(listed, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    return torch.optim.AdamW(listed, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)
