"""What a command promises: see ``occframe_register_commands``."""

from __future__ import annotations

import re
from typing import Any

from occframe.testing.check import check, require
from occframe.testing.subject import Subject


def _command(subject: Subject) -> Any:
    import click

    found = subject.component.load_factory()
    require(isinstance(found, click.Command), f"the factory is a {type(found).__name__}, not a click.Command")
    return found


@check()
def is_a_click_command(subject: Subject) -> None:
    """The factory is a lazy string to a ``click.Command``: ``occframe --help`` must not import it."""
    require(isinstance(subject.component.factory, str), "the factory is no lazy string")
    _command(subject)


@check()
def helps(subject: Subject) -> None:
    """``--help`` works and says what the command does."""
    from click.testing import CliRunner

    done = CliRunner().invoke(_command(subject), ["--help"], prog_name=subject.component.name)
    require(done.exit_code == 0, f"--help exits with {done.exit_code}: {done.exception!r}")
    require(_command(subject).help, "it has no help text: give the function a docstring")


@check()
def bad_usage_exits_with_2(subject: Subject) -> None:
    """An option that does not exist is bad usage, exit code 2, without a traceback."""
    from click.testing import CliRunner

    done = CliRunner().invoke(_command(subject), ["--no-such-option"], prog_name=subject.component.name)
    require(done.exit_code == 2, f"an unknown option exits with {done.exit_code}")


@check()
def its_name_is_a_verb(subject: Subject) -> None:
    """The name can be typed: lower case, digits and hyphens."""
    name = subject.component.name
    require(re.fullmatch(r"[a-z][a-z0-9-]*", name), f"the name {name!r} is not of lower case, digits and hyphens")
