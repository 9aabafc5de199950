"""What an engine promises: see ``occframe.types.Engine`` and ``Crew``."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from occframe.errors import OccframeError
from occframe.testing.check import Inapplicable, check, require
from occframe.testing.subject import Subject

_ITEMS = 12

# Functions of a module, so that any way of pickling can send them.


def _square(item: int) -> int:
    return item * item


def _make_square() -> Callable[[int], int]:
    return _square


def _make_named() -> Callable[[Any], str]:
    return partial(_told, uuid.uuid4().hex)


def _told(what: Any, item: Any) -> Any:
    return what


def _make_teller(what: Any) -> Callable[[Any], Any]:
    return partial(_told, what)


def _count_up_to(item: int) -> Iterator[int]:
    yield from range(item)


def _make_counter() -> Callable[[int], Iterator[int]]:
    return _count_up_to


def _fail(item: Any) -> Any:
    raise OccframeError("there is no item 7", remedy="leave it out")


def _make_failing() -> Callable[[Any], Any]:
    return _fail


def _process(item: Any) -> int:
    return os.getpid()


def _make_process() -> Callable[[Any], int]:
    return _process


def _die_once(mark: Path, item: int) -> int:
    if item == _ITEMS // 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def _make_mortal(mark: Path) -> Callable[[int], int]:
    return partial(_die_once, mark)


@check()
def says_what_it_offers(subject: Subject) -> None:
    """``workers`` is a number from 0 on, ``device`` a text or None."""
    workers, device = subject.built.workers, subject.built.device
    require(isinstance(workers, int) and workers >= 0, f"workers is {workers!r}")
    require(device is None or isinstance(device, str), f"device is {device!r}")


@check()
def results_come_in_order(subject: Subject) -> None:
    """``map`` gives the result of every item, in the order of the items, also of none."""
    with subject.built.start([_make_square, _make_square]) as crew:
        found = list(crew.map(range(_ITEMS)))
        require(found == [item * item for item in range(_ITEMS)], f"squares of 0..{_ITEMS - 1} came as {found}")
        require(list(crew.map([])) == [], "no items gave results")


@check()
def iterators_arrive(subject: Subject) -> None:
    """What a worker gives as an iterator can be iterated over where it arrives."""
    with subject.built.start([_make_counter]) as crew:
        found = [list(given) for given in crew.map([3, 0])]
        require(found == [[0, 1, 2], []], f"0, 1, 2 and nothing came as {found}")


@check()
def a_worker_is_made_once(subject: Subject) -> None:
    """What it loaded serves all its items: a model is not loaded for each of them."""
    with subject.built.start([_make_named, _make_named]) as crew:
        names = set(crew.map(range(_ITEMS)))
        require(len(names) <= 2, f"{_ITEMS} items were done by {len(names)} workers, two were made")


@check()
def every_worker_answers(subject: Subject) -> None:
    """``ask_all`` gives the answer of each worker, in the order in which they were made."""
    with subject.built.start([partial(_make_teller, name) for name in "abc"]) as crew:
        found = list(crew.ask_all("who?"))
        require(found == ["a", "b", "c"], f"workers a, b and c answered {found}")


@check()
def errors_arrive(subject: Subject) -> None:
    """An OccframeError that a worker raises is raised to the step, with its remedy."""
    with subject.built.start([_make_failing]) as crew:
        try:
            list(crew.map([7]))
        except OccframeError as error:
            require("no item 7" in error.message and error.remedy == "leave it out", f"it became: {error}")
            return
        except Exception as error:
            require(False, f"it became {type(error).__name__}: {error}")
    require(False, "nothing was raised")


@check()
def a_lost_worker_is_replaced(subject: Subject) -> None:
    """A worker that dies costs no result: another one is made, and does its item again."""
    with subject.built.start([_make_process]) as crew:
        if crew.ask_all(None) == [os.getpid()]:
            raise Inapplicable("its workers live in this process")
    with subject.built.start([partial(_make_mortal, subject.folder() / "died")] * 2) as crew:
        found = list(crew.map(range(_ITEMS)))
        require(found == list(range(_ITEMS)), f"0..{_ITEMS - 1} came as {found} when a worker had died")


@check()
def may_be_closed_unused(subject: Subject) -> None:
    """A run whose steps are all done closes its engine without having started anything."""
    subject.build().close()


@check()
def closes(subject: Subject) -> None:
    """The end of a run may be said twice."""
    subject.built.close()
    subject.built.close()
