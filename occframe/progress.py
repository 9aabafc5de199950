"""Progress a person can look at: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
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


class _Bar:
    def __init__(self, bar: RichProgress, task: int) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: int = 1) -> None:
        self._bar.advance(self._task, amount)  # type: ignore[arg-type]

    def describe(self, text: str) -> None:
        self._bar.update(self._task, text=text)  # type: ignore[arg-type]


class _Nothing:
    def advance(self, amount: int = 1) -> None: ...

    def describe(self, text: str) -> None: ...


class _Lines:
    def __init__(self, stream: TextIO, description: str, total: int | None, unit: str) -> None:
        self._stream, self._description, self._total, self._unit = stream, description, total, unit
        self._start = time.monotonic()
        self._next = self._start + SECONDS_BEFORE_FIRST_LINE
        self._done, self._text = 0, ""

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        if (now := time.monotonic()) >= self._next:
            self._next = now + SECONDS_BETWEEN_LINES
            self._write(now)

    def describe(self, text: str) -> None:
        self._text = text

    def finish(self) -> None:
        if (now := time.monotonic()) - self._start >= SECONDS_BEFORE_FIRST_LINE:
            self._write(now)

    def _write(self, now: float) -> None:
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


@contextmanager
def show_progress(
    description: str, total: int | None, unit: str, *, console: Console
) -> Iterator[_Bar | _Lines | _Nothing]:
    """description: what is being done. total: how many, None where unknown. unit: what is counted, plural.

    Nothing on a quiet console.
    """
    if console.quiet:
        yield _Nothing()
        return
    if console.is_terminal:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}", style="dim"),
        )
        with RichProgress(*columns, console=console) as bar:
            yield _Bar(bar, bar.add_task(description, total=total, unit=unit, text=""))
        return
    lines = _Lines(console.file or sys.stderr, description, total, unit)  # type: ignore[arg-type]
    yield lines
    lines.finish()
