"""``occframe data``: verbs on data sets of faces, each in a module of its own."""

from __future__ import annotations

import click

from occframe.cli.lazy import LazyVerbs

VERBS = {
    "convert": ("occframe.cli.data_convert:convert", "Any data set to Parquet; goes on where it stopped."),
}


@click.group(cls=LazyVerbs, verbs=VERBS)
def data() -> None:
    """Convert and inspect data sets of faces."""
