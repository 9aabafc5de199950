"""``occframe data``: verbs on data sets of faces, each in a module of its own."""

from __future__ import annotations

import click

from occframe.cli.lazy import LazyVerbs

VERBS = {
    "inspect": ("occframe.cli.data_inspect:inspect", "People, sizes, duplicates, wrong labels, a contact sheet."),
    "convert": ("occframe.cli.data_convert:convert", "Any data set to Parquet; goes on where it stopped."),
    "prepare": ("occframe.cli.data_prepare:prepare", "Aligned faces and pairs from a test set's official archives."),
}


@click.group(cls=LazyVerbs, verbs=VERBS)
def data() -> None:
    """Convert, inspect and prepare data sets of faces."""
