"""Errors are part of the interface: what happened, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OccframeError(Exception):
    """Something a user can act on. ``remedy`` says how; the CLI prints both and exits with ``exit_code``."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message


def first_line(error: BaseException) -> str:
    """What an error says, without its further lines; the name of its type where it says nothing (``MemoryError()``)."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@dataclass(frozen=True)
class Problem:
    """One fault of a configuration. where: ``pipeline.yaml:4:5`` (file, line, column) or ``--set key``."""

    where: str
    path: str
    message: str
    remedy: str | None = None

    def __str__(self) -> str:
        text = f"{self.where}: {self.path}: {self.message}" if self.path else f"{self.where}: {self.message}"
        return f"{text}\n    -> {self.remedy}" if self.remedy else text


class ConfigError(OccframeError):
    """All faults of a configuration at once."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in the configuration:", *(f"  {problem}" for problem in self.problems)]))


class PluginError(OccframeError):
    """A plugin or one of its components cannot be used; ``exit_code`` 2 because a configuration asked for it."""

    exit_code = 2


class Interrupted(OccframeError):
    """The user stopped the run; what was done is kept."""

    exit_code = 130
