"""The trackers of a run, kept from doing harm: whatever one raises ends it, with a line, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from occframe.errors import Interrupted, first_line
from occframe.types import RunFacts, Tracker


class Tracking:
    """say: tells the user."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._trackers: dict[str, Tracker] = {}

    @contextmanager
    def of(self, trackers: Mapping[str, Tracker], run: RunFacts) -> Iterator[None]:
        """While the block runs, figures go to ``trackers`` (by name)."""
        self._trackers = dict(trackers)
        self._each("begin", run)
        status: Literal["done", "failed", "interrupted"] = "failed"
        try:
            yield
            status = "done"
        except (Interrupted, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            self._each("finish", status)
            self._trackers = {}

    def figures(self, source: str, figures: Mapping[str, float], step: int | None) -> None:
        self._each("figures", source, figures, step)

    def _each(self, method: str, *arguments: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # a service that is away must not cost a training
                del self._trackers[name]
                self._say(f"tracker `{name}` stopped, the run goes on: {type(error).__name__}: {first_line(error)}")
