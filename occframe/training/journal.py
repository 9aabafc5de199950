"""What a training tells while it runs, gathered without making the device wait: a step writes one row of figures on the
device, and the host reads a window of rows at a time. There a loss that is no number is found, by name and step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.profiler import record_function

from occframe.training.metrics import MetricsLog

Batch = TypeVar("Batch")


@dataclass
class Pace:
    """images: seen. seconds: of wall time. waited: of these, for the data loader."""

    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, other: Pace) -> None:
        self.images += other.images
        self.seconds += other.seconds
        self.waited += other.waited

    def figures(self) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        return {
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.images / seconds, 1),
            "data_wait": round(min(self.waited / seconds, 1.0), 3),
        }


@dataclass(frozen=True)
class Fault:
    """The first figure that is no finite number. step: counted from 1. value: "nan", "inf" or "-inf"."""

    column: str
    step: int
    value: str


class Journal:
    """Writes a line of ``log`` every ``every`` steps and one an epoch: means of ``columns``, speed, share of data wait.

    columns: names of the figures of a step, in the order in which a fault is to be blamed on them.
    device: where these figures are computed.
    """

    def __init__(self, log: MetricsLog, columns: Sequence[str], *, every: int, device: str) -> None:
        self.log = log
        self.columns = tuple(columns)
        self.last: dict[str, dict[str, Any]] = {}  # the newest line of each kind
        self.whole = Pace()
        self._rows = torch.zeros(every, len(self.columns), device=device)
        self._filled = 0
        self._window = Pace()
        self._since = time.perf_counter()
        self._epoch = Pace()
        self._epoch_sums = torch.zeros(len(self.columns), dtype=torch.float64)
        self._epoch_steps = 0

    # --- each step ----------------------------------------------------------------------------------------------------

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """``batches``, noting how long the training waited for each."""
        while True:
            asked = time.perf_counter()
            with record_function("loading"):
                batch = next(batches, None)
            self._window.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def record(self, figures: Sequence[Tensor], images: int) -> None:
        """Keep the figures of one step: detached scalars on the device, one a column."""
        torch.stack(list(figures), out=self._rows[self._filled])
        self._filled += 1
        self._window.images += images

    @property
    def full(self) -> bool:
        return self._filled == len(self._rows)

    # --- now and then: these wait for the device ----------------------------------------------------------------------

    def fault(self, step: int) -> Fault | None:
        """The first fault in the open window, which ends after ``step``."""
        rows = self._rows[: self._filled].cpu()
        for number, row in enumerate(rows.isfinite().logical_not()):
            if row.any():
                column = int(row.nonzero()[0])
                return Fault(self.columns[column], step - self._filled + number + 1, str(float(rows[number, column])))
        return None

    def close_window(self, step: int, epoch: int, rate: float) -> None:
        """Write the window that ends after ``step`` and begin another. Steps with a fault are counted, not averaged."""
        if not self._filled:
            return
        rows = self._rows[: self._filled].cpu().double()
        rows = rows[rows.isfinite().all(dim=1)]
        now = time.perf_counter()
        self._window.seconds = now - self._since
        skipped = {"skipped_steps": self._filled - len(rows)} if len(rows) < self._filled else {}
        head = {"kind": "steps", "step": step, "epoch": epoch, "lr": rate}
        self._write(head | self._means(rows.sum(dim=0), len(rows)) | skipped | self._window.figures())
        self._epoch_sums += rows.sum(dim=0)
        self._epoch_steps += len(rows)
        self._epoch.add(self._window)
        self._filled, self._window, self._since = 0, Pace(), now

    def close_epoch(self, step: int, epoch: int) -> None:
        """Write the epoch that ends after ``step``, whose last window is closed already."""
        means = self._means(self._epoch_sums, self._epoch_steps)
        self._write({"kind": "epoch", "step": step, "epoch": epoch} | means | self._epoch.figures())
        self.whole.add(self._epoch)
        self._epoch, self._epoch_steps = Pace(), 0
        self._epoch_sums.zero_()

    def exclude(self, seconds: float) -> None:
        """Take time that no step used, such as writing a checkpoint, out of the open window."""
        self._since += seconds

    # --- going on after a kill ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self._rows[: self._filled].cpu(),
            "window": asdict(self._window) | {"seconds": time.perf_counter() - self._since},
            "epoch_sums": self._epoch_sums.clone(),
            "epoch_steps": self._epoch_steps,
            "epoch": asdict(self._epoch),
            "whole": asdict(self.whole),
            "last": self.last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._filled = len(state["rows"])
        self._rows[: self._filled] = state["rows"].to(self._rows.device)
        self._window = Pace(**state["window"])
        self._since = time.perf_counter() - self._window.seconds
        self._epoch_sums = state["epoch_sums"]
        self._epoch_steps = state["epoch_steps"]
        self._epoch = Pace(**state["epoch"])
        self.whole = Pace(**state["whole"])
        self.last = state["last"]

    def _means(self, sums: Tensor, steps: int) -> dict[str, float]:
        return dict(zip(self.columns, (sums / steps).tolist(), strict=True)) if steps else {}

    def _write(self, line: dict[str, Any]) -> None:
        self.log.write(line)
        self.last[line["kind"]] = line
