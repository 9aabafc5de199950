"""What a tracker promises: see ``occframe.types.Tracker``."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

from occframe.testing.check import check, require
from occframe.testing.subject import Subject
from occframe.types import RunFacts


def _facts(subject: Subject) -> RunFacts:
    return RunFacts(
        name="conformance", url=str(subject.folder()), seed=0, config={"steps": [{"use": "train", "lr": 0.1}]}
    )


def _whole_run(tracker: Any, facts: RunFacts, status: str = "done") -> None:
    tracker.begin(facts)
    for step in (1, 2, 3):
        tracker.figures("recogniser", {"loss": 1 / step, "lr": 0.1}, step)
    tracker.figures("evaluate", {"identification.clean.rank-1": 0.9, "unknown": math.nan}, None)
    tracker.finish(status)


@check()
def follows_a_run(subject: Subject) -> None:
    """``begin``, ``figures`` with and without a step, ``finish``: nothing raises, whatever the run's end."""
    for status in ("done", "failed", "interrupted"):
        _whole_run(subject.build(), _facts(subject), status)


@check()
def a_second_run_goes_on(subject: Subject) -> None:
    """A run that goes on in the same place may be followed by a new instance."""
    facts = _facts(subject)
    for _ in range(2):
        _whole_run(subject.build(), facts)


@check()
def an_empty_run_is_a_run(subject: Subject) -> None:
    """A run that skips every step begins and finishes."""
    tracker = subject.build()
    tracker.begin(_facts(subject))
    tracker.finish("done")


@check()
def is_silent(subject: Subject) -> None:
    """Nothing is printed to standard output, which belongs to the command's own result."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        _whole_run(subject.build(), _facts(subject))
    require(not printed.getvalue(), f"it printed {printed.getvalue()[:80]!r}")


@check()
def figures_are_left_alone(subject: Subject) -> None:
    """The mapping of figures is not changed: others read it too."""
    figures = {"loss": 0.5}
    tracker = subject.build()
    tracker.begin(_facts(subject))
    tracker.figures("recogniser", figures, 1)
    tracker.finish("done")
    require(figures == {"loss": 0.5}, f"the figures became {figures}")
