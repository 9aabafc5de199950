"""``occframe gallery``: verbs on a gallery, each in a module of its own."""

from __future__ import annotations

import click

from occframe.cli.lazy import LazyVerbs

VERBS = {
    "create": ("occframe.cli.gallery_write:create", "A new one, without rows."),
    "add": ("occframe.cli.gallery_write:add", "Faces of pictures, or embeddings from a file."),
    "delete": ("occframe.cli.gallery_write:delete", "Rows by id or by person."),
    "compact": ("occframe.cli.gallery_write:compact", "Rewrite without the deleted: then they are gone."),
    "verify": ("occframe.cli.gallery_read:verify", "Compare every byte with what was written; --repair."),
    "info": ("occframe.cli.gallery_read:info", "What it holds, of which model, in how many parts."),
    "plan": ("occframe.cli.gallery_plan:plan", "Which index for how many faces: memory, recall, latency."),
    "index": ("occframe.cli.gallery_index:index", "Build it, or bring it up to date; --measure."),
    "search": ("occframe.cli.gallery_search:search", "Who is it? Pictures or vectors; a table, JSON or HTML."),
    "calibrate": ("occframe.cli.gallery_calibrate:calibrate", "From which score on a hit is somebody."),
    "export": ("occframe.cli.gallery_read:export", "For DuckDB, pandas, autofaiss; or as a NumPy matrix."),
    "import": ("occframe.cli.gallery_write:import_", "From another tool's Parquet, NumPy or CSV."),
}


@click.group(cls=LazyVerbs, verbs=VERBS)
def gallery() -> None:
    """Embeddings in Parquet: keep, change, check and search them.

    GALLERY is a folder, or any URL that fsspec knows (s3://bucket/faces).
    """
