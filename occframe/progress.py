"""Progress a person can look at: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BEFORE_FIRST_LINE = 2.0


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            f"{speed:,.0f} {task.fields['unit']}/s"
            if speed and speed >= 10
            else f"{speed:.1f} {task.fields['unit']}/s"
            if speed
            else "",
            style="progress.data.speed",
        )


class Bar(Protocol):
    """One of a board."""

    def advance(self, amount: int = 1) -> None: ...

    def describe(self, text: str) -> None: ...

    def finish(self) -> None:
        """It is taken off the board."""


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: int = 1) -> None:
        self._bars.advance(self._task, amount)

    def describe(self, text: str) -> None:
        self._bars.update(self._task, text=text)

    def finish(self) -> None:
        self._bars.remove_task(self._task)


class _Nothing:
    def advance(self, amount: int = 1) -> None: ...

    def describe(self, text: str) -> None: ...

    def finish(self) -> None: ...


class _Lines:
    def __init__(self, stream: TextIO, description: str, total: int | None, unit: str) -> None:
        self._stream, self._description, self._total, self._unit = stream, description, total, unit
        self._start = time.monotonic()
        self._next = self._start + SECONDS_BEFORE_FIRST_LINE
        self._done, self._text, self._said = 0, "", -1

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        if (now := time.monotonic()) >= self._next:
            self._next = now + SECONDS_BETWEEN_LINES
            self._write(now)

    def describe(self, text: str) -> None:
        self._text = text

    def finish(self) -> None:
        if (now := time.monotonic()) - self._start >= SECONDS_BEFORE_FIRST_LINE and self._said != self._done:
            self._write(now)

    def _write(self, now: float) -> None:
        self._said = self._done
        rate = self._done / max(now - self._start, 1e-9)
        of_total = f"/{self._total}" if self._total else ""
        left = (
            f", {(self._total - self._done) / rate:.0f} s left"
            if self._total and rate and self._done < self._total
            else ""
        )
        text = f", {self._text}" if self._text else ""
        line = f"  {self._description}: {self._done}{of_total} {self._unit}, {rate:.1f}/s{left}{text}"
        print(line, file=self._stream, flush=True)


#: description: what is being done. total: how many, None where unknown. unit: what is counted, plural.
AddBar: TypeAlias = Callable[[str, int | None, str], Bar]


@contextmanager
def show_board(console: Console) -> Iterator[AddBar]:
    """Gives a function that adds a bar to one display: as many as there are things going on. Nothing is shown on a
    quiet console."""
    if console.quiet:
        yield lambda description, total, unit: _Nothing()
    elif console.is_terminal:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}", style="dim"),
        )
        with RichProgress(*columns, console=console) as bars:
            yield lambda description, total, unit: _Bar(
                bars, bars.add_task(description, total=total, unit=unit, text="")
            )
    else:
        stream = console.file or sys.stderr
        yield lambda description, total, unit: _Lines(stream, description, total, unit)  # type: ignore[arg-type]


@contextmanager
def show_progress(description: str, total: int | None, unit: str, *, console: Console) -> Iterator[Bar]:
    """One bar, as ``show_board`` has them; on a terminal it stays to be seen when it is done."""
    with show_board(console) as add:
        bar = add(description, total, unit)
        yield bar
        if not console.is_terminal:
            bar.finish()
