"""The engine that every pipeline has: the work is done here, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class InProcess:
    """Fulfils ``occframe.types.Engine``."""

    workers = 0
    device = None

    @contextmanager
    def start(self, makes: Sequence[Callable[[], Callable[[Any], Any]]]) -> Iterator[_Crew]:
        yield _Crew([make() for make in makes])

    def close(self) -> None:
        """Nothing was opened."""


class _Crew:
    """Fulfils ``occframe.types.Crew``; of several, the first does what one can do alone."""

    def __init__(self, workers: Sequence[Callable[[Any], Any]]) -> None:
        self._workers = workers

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        return map(self._workers[0], items)

    def ask_all(self, item: Any) -> list[Any]:
        return [worker(item) for worker in self._workers]
