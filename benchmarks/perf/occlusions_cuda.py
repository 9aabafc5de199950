"""What every occlusion generator costs a training on a GPU: of one step of iresnet50 in bf16, channels last, ArcFace.

Two figures a generator. Alone: one batch, whose parameters were drawn on the host as the loader's threads draw them, is
copied and painted, again and again, against the step by itself. Looped: a training's steps over a loader that occludes
every picture on the device, against those over one that occludes none; there the GPU paints beside the step before.

    python benchmarks/perf/occlusions.py --device cuda
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from side_by_side import Comparison, interleave

from occframe.component import BackboneBlock, BuildContext, LossBlock
from occframe.data import FaceLoader
from occframe.data.transfer import moved, packed, unpacked
from occframe.standalone import parse_block
from occframe.training.optimisers import Sgd, build_optimiser
from occframe.training.recogniser import GradientStep, Recogniser, Term
from occframe.types import FaceBatch

_DEVICE = torch.device("cuda")
_CLASSES = 10_572  # of CASIA-WebFace
_RATE = 0.01
_LEAD = 3  # steps before the clock starts: kernels are chosen, threads are ahead


class KeptFaces:
    """``count`` pictures in memory, those of one batch over and over; fulfils ``Dataset``."""

    aligned = True

    def __init__(self, batch: FaceBatch, count: int) -> None:
        self._pictures = batch.images.permute(0, 2, 3, 1).numpy()
        self.ids = [str(row) for row in range(count)]
        self.subjects = [str(row % _CLASSES) for row in range(count)]
        self.attributes: Mapping[str, np.ndarray] = {}
        self.blocks: Sequence[range] = [range(count)]
        self.landmarks = None if batch.landmarks is None else batch.landmarks[:1].expand(count, 5, 2).numpy()

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        return [self._pictures[row % len(self._pictures)] for row in rows]

    def fingerprint(self) -> str:
        return "in memory"


def clock() -> torch.cuda.Event:
    """Of the GPU, when it comes to this place: what it waits for is in it."""
    return torch.cuda.current_stream().record_event(torch.cuda.Event(enable_timing=True))


def milliseconds(work: Callable[[], Any], times: int) -> float:
    for _ in range(2):
        work()
    began = clock()
    for _ in range(times):
        work()
    ended = clock()
    torch.cuda.synchronize()
    return float(began.elapsed_time(ended)) / times


def training_step(context: BuildContext) -> GradientStep:
    backbone = context.build(parse_block(BackboneBlock, {"use": "iresnet50"}, context))
    margin = parse_block(LossBlock, {"use": "arcface"}, context)
    loss = context.build(margin, num_identities=_CLASSES, embedding_dim=backbone.embedding_dim)
    recogniser = Recogniser(backbone, [Term("arcface", 1.0, loss)], precision="bf16", channels_last=True)
    recogniser = recogniser.to(_DEVICE).train()
    return GradientStep(recogniser, build_optimiser(Sgd(lr=_RATE), recogniser.parameters()))


def looped(batch: FaceBatch, generator: Any, step: GradientStep, times: int) -> float:
    """Milliseconds a step of an epoch."""
    count = len(batch.images)
    faces = KeptFaces(batch, count * (times + _LEAD))
    loader = FaceLoader(
        faces,
        height=112,
        width=112,
        batch_size=count,
        threads=4,
        seed=0,
        occlusion=generator,
        classes=list(dict.fromkeys(faces.subjects)),
        device=str(_DEVICE),
        augment_on="device",
    )
    for number, some in enumerate(loader.epoch(0)):
        if number == _LEAD:
            began = clock()
        step(some, _RATE)
    ended = clock()
    torch.cuda.synchronize()
    return float(began.elapsed_time(ended)) / times


def share_of_a_step(
    name: str, generator: Any, step: GradientStep, batch: FaceBatch, *, quick: bool
) -> list[Comparison]:
    times, rounds = (3, 2) if quick else (20, 3)
    parcel = packed(generator.sample(batch, torch.arange(len(batch.images))), pin=True)
    there = moved(batch, _DEVICE)
    alone = interleave(
        f"{name} alone",
        lambda: milliseconds(lambda: generator.apply(there.images, unpacked(parcel, _DEVICE)), times),
        lambda: milliseconds(lambda: step(there, _RATE), times),
        unit="ms",
        bar="<= 0.05",
        rounds=rounds,
    )
    training = interleave(
        f"{name} looped",
        lambda: looped(batch, generator, step, times),
        lambda: looped(batch, None, step, times),
        unit="ms",
        bar="<= 1.05",
        rounds=rounds,
    )
    return [alone, training]
