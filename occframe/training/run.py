"""What steps that train do alike: set the seed, put a training together, carry it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from occframe.distributed import ALONE, Ranks
from occframe.errors import OccframeError, first_line
from occframe.machine import keep_freed_memory
from occframe.random import derive_seed
from occframe.step import StepContext
from occframe.storage import join
from occframe.training.checkpoint import Checkpoints
from occframe.training.journal import Journal
from occframe.training.loop import Batches, Plan, Training, UpdateType
from occframe.training.metrics import MetricsLog, NoLog
from occframe.training.profiling import profiled_if
from occframe.training.schedules import AnySchedule, Span, rate_factor


@contextmanager
def seeded(context: StepContext, purpose: str) -> Iterator[None]:
    """Random numbers of torch from the step's seed; outside they go on as if nothing had been drawn."""
    if context.device.startswith("cpu"):
        keep_freed_memory()
    devices = [context.device] if torch.device(context.device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(context.seed, purpose))
        yield


def synchronised(networks: Any, device: str, together: Ranks) -> Any:
    """The same module, whose batch norm sees the batch of all processes where it can: on GPUs."""
    if together.several and device.startswith("cuda"):
        return torch.nn.SyncBatchNorm.convert_sync_batchnorm(networks)  # type: ignore[no-untyped-call]
    return networks


def images_a_step(context: StepContext, wanted: int, faces: int, together: Ranks = ALONE) -> int:
    """How many faces a batch holds where the data set may be smaller; said where it is.

    Raises OccframeError where some process would get one face only, of which nothing is learnt.
    """
    count = together.count
    if faces < wanted:
        wanted = faces - faces % count
        seen = "them all" if wanted == faces else f"{wanted} of them"
        context.note(f"there are {faces} images, less than batch_size: every step sees {seen}")
    if count > 1 and wanted < 2 * count:
        raise OccframeError(
            f"batches of {wanted} images leave less than two to each of {count} processes",
            remedy="raise batch_size, or train in fewer processes",
        )
    return wanted


def training_of(
    context: StepContext,
    batches: Batches,
    update: UpdateType,
    *,
    steps: int,
    lr: float,
    schedule: AnySchedule,
    log_every: int,
    checkpoint_minutes: float,
    watch: Callable[[Mapping[str, Any]], None] = lambda figures: None,
    together: Ranks = ALONE,
) -> Training[UpdateType]:
    """``steps`` steps of ``update`` at the learning rate ``lr`` times ``schedule``, with metrics.jsonl and checkpoints
    in the step's directory. watch, together: as ``Training`` takes them."""
    log = MetricsLog(join(context.url, "metrics.jsonl"), context.track) if together.is_main else NoLog()
    span = Span(batches.batches_per_epoch, steps)

    def rate(step: int) -> float:
        return lr * rate_factor(schedule, step, span)

    return Training(
        batches,
        update,
        Plan(steps=steps, rate=rate, checkpoint_seconds=checkpoint_minutes * 60),
        Journal(log, update.columns, every=log_every, device=context.device),
        Checkpoints(join(context.url, "checkpoints"), context.note),
        device=context.device,
        watch=watch,
        together=together,
    )


def carry_out(context: StepContext, training: Training[Any], batch_size: int) -> None:
    """Train to the end, from the newest checkpoint on where there is one.

    Raises OccframeError where the device's memory is too small, and what ``Training.run`` raises.
    """
    if not training.together.is_main:  # the networks are alike; what training draws, dropout for one, is not
        torch.manual_seed(derive_seed(context.seed, "train", training.together.rank))
    if done := training.resume():
        context.note(f"went on from the checkpoint of step {done} of {training.total_steps}")
    left = training.total_steps - training.step
    try:
        with (
            profiled_if(context, left, wanted=training.together.is_main) as after_step,
            context.progress("training", left * batch_size, "images") as progress,
        ):
            training.run(stop=context.stop_requested, progress=progress, after_step=after_step)
    except torch.OutOfMemoryError as error:
        raise OccframeError(
            f"{context.device} has no memory left for batches of {batch_size} images: {first_line(error)}",
            remedy="lower batch_size, or set precision: bf16",
        ) from error
    except RuntimeError as error:
        if training.together.several and _lost_another(error):
            raise OccframeError(
                f"another process of this training is gone: {first_line(error)}", remedy="see what that one wrote"
            ) from error
        raise


def _lost_another(error: RuntimeError) -> bool:
    """NCCL's errors have a class of their own, gloo's tell where in gloo they come from."""
    return isinstance(error, torch.distributed.DistError) or "gloo/" in str(error)
