"""What every occlusion generator costs a training on a GPU: of one step of iresnet50 in bf16, channels last, ArcFace.

Two figures a generator, for one batch. Alone: its parameters and pictures by themselves, against the step by itself;
small kernels then take the time that Python needs to ask for them. With the step: steps that occlude their batch first,
against steps that do not, as a training would feel it; there Python runs ahead while the GPU works.

    python benchmarks/perf/occlusions.py --device cuda
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from side_by_side import Comparison, interleave

from occframe.component import BackboneBlock, BuildContext, LossBlock
from occframe.standalone import parse_block
from occframe.training.optimisers import Sgd, build_optimiser
from occframe.training.recogniser import GradientStep, Recogniser, Term
from occframe.types import FaceBatch

_CLASSES = 10_572  # of CASIA-WebFace
_RATE = 0.01


def milliseconds(work: Callable[[], Any], times: int) -> float:
    """By the GPU's own clock, waits for Python included; two calls before it starts."""
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(times):
        work()
    ended.record()
    torch.cuda.synchronize()
    return float(began.elapsed_time(ended)) / times


def training_step(context: BuildContext) -> GradientStep:
    backbone = context.build(parse_block(BackboneBlock, {"use": "iresnet50"}, context))
    margin = parse_block(LossBlock, {"use": "arcface"}, context)
    loss = context.build(margin, num_identities=_CLASSES, embedding_dim=backbone.embedding_dim)
    recogniser = Recogniser(backbone, [Term("arcface", 1.0, loss)], precision="bf16", channels_last=True)
    recogniser = recogniser.cuda().train()
    return GradientStep(recogniser, build_optimiser(Sgd(lr=_RATE), recogniser.parameters()))


def on_cuda(batch: FaceBatch) -> FaceBatch:
    tensors = {item.name: getattr(batch, item.name) for item in fields(batch)}
    return FaceBatch(**{name: None if tensor is None else tensor.cuda() for name, tensor in tensors.items()})


def share_of_a_step(
    name: str, generator: Any, step: GradientStep, batch: FaceBatch, *, quick: bool
) -> list[Comparison]:
    times, rounds = (3, 2) if quick else (10, 3)
    seeds = torch.arange(len(batch.images), device="cuda")

    def occlude() -> FaceBatch:
        occluded = generator.apply(batch.images, generator.sample(batch, seeds))
        return replace(batch, images=occluded.images, mask=occluded.mask)

    def plain() -> float:
        return milliseconds(lambda: step(batch, _RATE), times)

    alone = interleave(
        f"{name} alone",
        lambda: milliseconds(occlude, times),
        plain,
        unit="ms",
        bar="<= 0.05",
        rounds=rounds,
    )
    looped = interleave(
        f"{name} with the step",
        lambda: milliseconds(lambda: step(occlude(), _RATE), times),
        plain,
        unit="ms",
        bar="<= 1.05",
        rounds=rounds,
    )
    return [alone, looped]
