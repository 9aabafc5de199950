"""The training loop: batches in, metrics and checkpoints out. A killed run goes on, bit by bit, where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from occframe.data.transfer import moved
from occframe.distributed import ALONE, Ranks, gather, highest
from occframe.errors import Interrupted, OccframeError
from occframe.step import Progress
from occframe.training.checkpoint import Checkpoints
from occframe.training.journal import Journal


class Batches(Protocol):
    """Epochs of batches, each a pure function of seed, epoch and batch number: what makes an exact resume possible."""

    @property
    def batches_per_epoch(self) -> int: ...

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[Any]:
        """Frozen dataclasses of tensors, [B, …] each, or None; ``images`` says how many there are."""


class Update(Protocol):
    """One step of what is trained: ``recogniser.GradientStep``, ``adversarial.AdversarialStep``.

    It may offer ``shards``, name -> ``checkpoint.Shard``: rows of tables that are too large for ``state_dict``, each
    process its own; and with it ``load_shards(read)``, ``read(name, first row, stop) -> rows``.
    """

    @property
    def columns(self) -> Sequence[str]: ...

    def __call__(self, batch: Any, rate: float) -> Sequence[Tensor]:
        """batch: on the device. rate: learning rate. Returns detached scalars on the device, one a column."""

    @property
    def skips_overflow(self) -> bool:
        """True while a figure that is no number changed nothing and is no fault."""

    def bad_weight(self) -> str | None:
        """The first weight that is not finite, by name."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


#: Steps between two agreements of several processes on whether to save or to stop.
_AGREE_EVERY = 10

UpdateType = TypeVar("UpdateType", bound=Update)


@dataclass(frozen=True)
class Plan:
    """steps: in all. rate: learning rate at a step, 0 the first. checkpoint_seconds: longest time between two
    checkpoints."""

    steps: int
    rate: Callable[[int], float]
    checkpoint_seconds: float


class Training(Generic[UpdateType]):
    """One training: what it updates, what it tells and what it keeps. ``resume`` first, then ``run``.

    watch: told the figures of every window of steps, the newest last; what it raises ends the training.
    together: the processes that train this at once.
    """

    def __init__(
        self,
        batches: Batches,
        update: UpdateType,
        plan: Plan,
        journal: Journal,
        checkpoints: Checkpoints,
        *,
        device: str,
        watch: Callable[[Mapping[str, Any]], None] = lambda figures: None,
        together: Ranks = ALONE,
    ) -> None:
        self.batches = batches
        self.update = update
        self.plan = plan
        self.journal = journal
        self.checkpoints = checkpoints
        self.device = torch.device(device)
        self.watch = watch
        self.together = together
        self.step = 0  # taken so far
        self._saved_at = time.monotonic()

    @property
    def total_steps(self) -> int:
        return self.plan.steps

    def resume(self) -> int:
        """Take up the newest whole checkpoint, where there is one. Returns the steps already taken."""
        state = self.checkpoints.load_latest()
        if state is not None:
            self.update.load_state_dict(state["update"])
            if hasattr(self.update, "load_shards"):
                self.update.load_shards(partial(self.checkpoints.read_rows, state["step"]))
            self.journal.load_state_dict(state["journal"])
            # With more processes than before the new ones draw from where their seeds put them.
            if (rank := self.together.rank) < len(state["random"]):
                _set_random_state(state["random"][rank], self.device)
            self.step = state["step"]
        self.journal.log.rewind(self.step)
        return self.step

    def run(
        self, *, stop: Callable[[], bool], progress: Progress, after_step: Callable[[], None] = lambda: None
    ) -> None:
        """Train to the last step. Of several processes each takes its part of every batch.

        Raises Interrupted when ``stop`` asks for it, a checkpoint kept; OccframeError when a figure is no number.
        """
        per_epoch = self.batches.batches_per_epoch
        self._saved_at = time.monotonic()
        while self.step < self.total_steps:
            epoch, first = divmod(self.step, per_epoch)
            for batch in self.journal.timed(self.batches.epoch(epoch, start_batch=first)):
                self._pause(stop)
                count = len(batch.images) * self.together.count
                if len(batch.images) > 1:  # what could not be read is missing; batch norm has no use for one image
                    figures = self.update(moved(batch, self.device), self.plan.rate(self.step))
                    self.journal.record(figures, count)
                self.step += 1
                progress.advance(count)
                if self.journal.full:
                    self._close_window(epoch + 1, progress)
                after_step()
                if self.step == self.total_steps:
                    break
            # Also where batches of unreadable pictures were passed over.
            self.step = min((epoch + 1) * per_epoch, self.total_steps)
            self._close_window(epoch + 1, progress)
            self.journal.close_epoch(self.step, epoch + 1)
        self.save()

    def _pause(self, stop: Callable[[], bool]) -> None:
        """Between two steps: write a checkpoint where it is time for one, or where the user wants to stop."""
        due = time.monotonic() - self._saved_at >= self.plan.checkpoint_seconds
        wish = 2 if stop() else int(due)
        if self.together.several:
            # Asked now and then: all of them have to stop at one step, and only process 0's clock counts.
            if self.step % _AGREE_EVERY:
                return
            wish = highest(wish if wish == 2 or self.together.is_main else 0)
        if wish == 2:
            self.save()
            raise Interrupted(
                f"training stopped after step {self.step} of {self.total_steps}; a checkpoint is kept",
                remedy="run the same command again to go on",
            )
        if wish == 1:
            self.save()

    def save(self) -> None:
        """Write a checkpoint, unless something in it is no number."""
        began = time.perf_counter()
        self._stop_on_fault()
        if (weight := self.update.bad_weight()) is not None:
            raise self._no_number(f"weight `{weight}` is not finite after step {self.step}")
        self.journal.log.flush()
        shards = [self.checkpoints.save_shards(self.step, getattr(self.update, "shards", {}))]
        random = [_random_state(self.device)]
        if self.together.several:
            shards, random = gather(shards[0]), gather(random[0])
        if self.together.is_main:
            state = {
                "step": self.step,
                "update": self.update.state_dict(),
                "journal": self.journal.state_dict(),
                "random": random,
            }
            self.checkpoints.save(self.step, state, [entry for entries in shards for entry in entries])
        self._saved_at = time.monotonic()
        self.journal.exclude(time.perf_counter() - began)

    def _close_window(self, epoch: int, progress: Progress) -> None:
        self._stop_on_fault()
        self.journal.close_window(self.step, epoch, self.plan.rate(self.step - 1))
        told = self.journal.last.get("steps", {})
        if "loss" in told:
            epochs = -(-self.total_steps // self.batches.batches_per_epoch)
            progress.describe(f"epoch {epoch}/{epochs}, loss {told['loss']:.3f}")
        if told.get("step") == self.step:
            began = time.perf_counter()
            self.watch(told)
            self.journal.exclude(time.perf_counter() - began)

    def _stop_on_fault(self) -> None:
        fault = self.journal.fault(self.step)
        if fault is not None and not self.update.skips_overflow:
            raise self._no_number(f"{fault.column} became {fault.value} at step {fault.step}")

    def _no_number(self, what: str) -> OccframeError:
        self.journal.log.flush()
        rate = self.plan.rate(max(self.step - 1, 0))
        return OccframeError(
            f"training diverged: {what} of {self.total_steps}, at a learning rate of {rate:.3g}",
            remedy="lower optimiser.lr, lengthen schedule.warmup_epochs, set clip_norm: 5 or precision: fp32; "
            f"checkpoints from before lie in {self.checkpoints.url}",
        )


def _random_state(device: torch.device) -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
