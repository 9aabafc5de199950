"""``occframe data``: verbs on data sets of faces, each in a module of its own."""

from __future__ import annotations

import click

from occframe.cli.lazy import LazyVerbs

#: verb -> (module:command, one line); `prepare`, `convert` and `inspect` go here.
VERBS: dict[str, tuple[str, str]] = {}


@click.group(cls=LazyVerbs, verbs=VERBS)
def data() -> None:
    """Convert and inspect data sets of faces."""
