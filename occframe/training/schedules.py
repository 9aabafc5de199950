"""The learning rate as a pure function of the step: nothing to save, nothing that a resumed run could get wrong."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from occframe.component import Config


@dataclass(frozen=True)
class Span:
    """How long a training is: optimiser steps an epoch, and in all. Both at least 1."""

    steps_per_epoch: int
    total_steps: int


class _WarmUp(Config):
    warmup_epochs: float = Field(0.0, ge=0, description="epochs over which the rate rises linearly to its full value")
    warmup_steps: int = Field(0, ge=0, description="the same in steps; give one of the two")

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError("warmup_epochs and warmup_steps say the same thing: give one of the two")
        return self

    def warmup(self, span: Span) -> int:
        """Length of the warm-up in steps."""
        return self.warmup_steps or round(self.warmup_epochs * span.steps_per_epoch)


class ConstantSchedule(_WarmUp):
    name: Literal["constant"] = "constant"

    def decay(self, step: int, span: Span) -> float:
        return 1.0


class MultiStepSchedule(_WarmUp):
    name: Literal["multi-step"] = "multi-step"
    milestones: list[float] = Field(min_length=1, description="epochs at whose start the rate drops; 2.5 is mid-epoch")
    gamma: float = Field(0.1, gt=0, lt=1, description="factor of every drop")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.milestones != sorted(set(self.milestones)) or self.milestones[0] <= 0:
            raise ValueError("milestones are epochs above 0 in ascending order, e.g. [10, 25]")
        return self

    def decay(self, step: int, span: Span) -> float:
        drops = [round(epoch * span.steps_per_epoch) for epoch in self.milestones]
        return self.gamma ** bisect_right(drops, step)


class CosineSchedule(_WarmUp):
    """Half a cosine from the end of the warm-up to the end of training (Loshchilov & Hutter 2017, eq. 5)."""

    name: Literal["cosine"] = "cosine"
    floor: float = Field(0.0, ge=0, lt=1, description="fraction of the full rate that is left at the end")

    def decay(self, step: int, span: Span) -> float:
        start = min(self.warmup(span), span.total_steps - 1)
        # The last step, total_steps - 1, is taken at the floor exactly.
        progress = (step - start) / max(span.total_steps - 1 - start, 1)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


class LinearSchedule(_WarmUp):
    """The full rate for a while, then down to 0 in a straight line, as image-to-image networks are trained."""

    name: Literal["linear"] = "linear"
    hold: float = Field(0.5, ge=0, lt=1, description="share of the training at the full rate")

    def decay(self, step: int, span: Span) -> float:
        left = (span.total_steps - step) / (span.total_steps * (1 - self.hold))
        return min(max(left, 0.0), 1.0)


AnySchedule: TypeAlias = ConstantSchedule | MultiStepSchedule | CosineSchedule | LinearSchedule
Schedule = Annotated[AnySchedule, Field(discriminator="name")]


def rate_factor(schedule: AnySchedule, step: int, span: Span) -> float:
    """What the base learning rate is multiplied with at ``step`` (0 is the first). In 0..1, above 0 during warm-up."""
    warmup = schedule.warmup(span)
    rise = (step + 1) / warmup if step < warmup else 1.0
    return rise * schedule.decay(step, span)
