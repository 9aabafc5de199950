"""The embedding store: Parquet over fsspec is the truth, an index is disposable. See docs/gallery.md."""

from __future__ import annotations

from occframe.gallery.hits_file import HitsWriter, ProbeHits, read_hits
from occframe.gallery.manifest import GallerySchema
from occframe.gallery.rows import RowReader
from occframe.gallery.snapshot import Changes, Snapshot
from occframe.gallery.store import Gallery, GalleryBatch
from occframe.gallery.writer import GalleryWriter

__all__ = [
    "Changes",
    "Gallery",
    "GalleryBatch",
    "GallerySchema",
    "GalleryWriter",
    "HitsWriter",
    "ProbeHits",
    "RowReader",
    "Snapshot",
    "read_hits",
]
