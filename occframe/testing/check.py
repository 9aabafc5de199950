"""What a check is, and how it says that it failed or does not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Tier = Literal["core", "extra"]


class CheckFailed(AssertionError):
    """The component does not do what its kind promises. The message says what was seen, and what was promised."""


class Inapplicable(Exception):
    """The check says nothing about this component here; the message says why, and names the missing capability."""


def require(condition: object, message: str) -> None:
    """Like ``assert``, also under ``python -O`` and with a message that stands without its source."""
    if not condition:
        raise CheckFailed(message)


@dataclass(frozen=True)
class Check:
    """One promise and how it is tried. tier: ``core`` must hold to claim compatibility. needs: capability it is about.

    cuda: needs a CUDA device. since: the suite's version that brought it.
    """

    name: str
    tier: Tier
    needs: str | None
    cuda: bool
    since: str
    summary: str
    run: Callable[[Any], None]


def check(
    *, tier: Tier = "core", needs: str | None = None, cuda: bool = False, since: str = "1.0"
) -> Callable[[Callable[[Any], None]], Check]:
    """Make a check of a function that is given a ``Subject`` (checks of plugins: a ``PluginRecord``).

    Its name is the check's, the first line of its docstring the summary.
    """

    def made(function: Callable[[Any], None]) -> Check:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        return Check(function.__name__, tier, needs, cuda, since, summary, function)

    return made
