"""What the training loop adds to a step: a model that does nothing, in our loop and in one written by hand.

Both normalise the same preloaded uint8 batches, run the same forward and backward pass and the same optimiser; ours
also keeps the losses, measures speed and data wait, moves a progress bar and asks whether to stop or to checkpoint.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from side_by_side import Comparison, interleave, main
from torch import Tensor, nn

from occframe.progress import show_progress
from occframe.training.checkpoint import Checkpoints
from occframe.training.journal import Journal
from occframe.training.loop import Plan, Training
from occframe.training.metrics import MetricsLog
from occframe.training.optimisers import Sgd, build_optimiser
from occframe.training.recogniser import GradientStep, Recogniser, Term
from occframe.training.schedules import CosineSchedule, Span, rate_factor
from occframe.types import BackboneOutput, FaceBatch, FeatureInfo, ImageSpec

BATCH, SIZE, DIM = 2, 8, 4


class NoOpBackbone(nn.Module):
    """One weight, which it gives as everybody's embedding."""

    image_spec = ImageSpec(height=SIZE, width=SIZE)
    embedding_dim = DIM
    feature_info: Sequence[FeatureInfo] = ()

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(DIM))

    def forward(self, images: Tensor) -> BackboneOutput:
        return BackboneOutput(self.weight.expand(len(images), DIM))


class MeanLoss(nn.Module):
    needs: frozenset[str] = frozenset()

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        return output.embedding.mean()


@dataclass(frozen=True)
class Preloaded:
    batches: list[FaceBatch]

    @property
    def batches_per_epoch(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
        return iter(self.batches[start_batch:])


def preloaded(steps: int) -> Preloaded:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return Preloaded([FaceBatch(images.clone(), torch.arange(BATCH)) for _ in range(steps)])


def cpu_microseconds(work: Callable[[], object]) -> float:
    """CPU time of this process: one thread computes on both sides, and a busy machine is not the loop's fault."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e6


def our_loop(data: Preloaded, *, log_every: int) -> float:
    """Microseconds a step of occframe's loop, everything switched on that a real training has."""
    steps = data.batches_per_epoch
    schedule, span, optimiser = CosineSchedule(), Span(steps, steps), Sgd()
    recogniser = Recogniser(NoOpBackbone(), [Term("mean", 1.0, MeanLoss())])
    update = GradientStep(recogniser, build_optimiser(optimiser, recogniser.parameters()))
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(MetricsLog(f"{folder}/metrics.jsonl"), update.columns, every=log_every, device="cpu")
        plan = Plan(
            steps=steps, rate=lambda step: optimiser.lr * rate_factor(schedule, step, span), checkpoint_seconds=600
        )
        training = Training(data, update, plan, journal, Checkpoints(f"{folder}/checkpoints", print), device="cpu")
        with (
            open(Path(folder) / "terminal", "w") as terminal,
            show_progress(
                "training", steps * BATCH, "images", console=Console(file=terminal, force_terminal=True)
            ) as progress,
        ):
            return cpu_microseconds(lambda: training.run(stop=lambda: False, progress=progress)) / steps


def bare_loop(data: Preloaded) -> float:
    """Microseconds a step of what anybody would write."""
    model, loss = NoOpBackbone(), MeanLoss()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)

    def loop() -> None:
        for batch in data.epoch(0):
            inputs = (batch.images.float() - 127.5) / 127.5
            loss(model(inputs), batch).backward()
            optimiser.step()
            optimiser.zero_grad()

    return cpu_microseconds(loop) / data.batches_per_epoch


def compare(quick: bool) -> list[Comparison]:
    torch.set_num_threads(1)
    data = preloaded(500 if quick else 5000)
    return [
        interleave(
            "training step of a model that does nothing",
            lambda: our_loop(data, log_every=50),
            lambda: bare_loop(data),
            unit="us",
            bar="ours - theirs <= 200",
            rounds=3 if quick else 7,
        )
    ]


if __name__ == "__main__":
    main(compare)
