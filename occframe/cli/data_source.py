"""How verbs on data sets are told which one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def source_options(command: Command) -> Command:
    command = click.option(
        "--set", "options", multiple=True, metavar="KEY=VALUE", help="An option of the data set, as YAML: aligned=true."
    )(command)
    return click.option("--use", help="The data set component that reads SOURCE; by file names if absent.")(command)
