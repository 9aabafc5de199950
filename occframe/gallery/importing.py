"""Rows of another tool's files into a gallery: Parquet, NumPy and CSV, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from occframe.errors import OccframeError
from occframe.gallery.checks import check_vectors
from occframe.gallery.layout import arrow_schema
from occframe.gallery.manifest import GallerySchema
from occframe.gallery.writer import GalleryWriter
from occframe.storage import filesystem

#: Rows that pass through memory at once: 8 MiB of float32 at D = 512.
BATCH = 4096
Existing = Literal["error", "replace", "skip"]


@dataclass(frozen=True)
class SourceColumns:
    """How a file names what we want. A file without the subject's column has one subject an id."""

    id: str = "id"
    subject: str = "subject"
    embedding: str = "embedding"


@dataclass(frozen=True)
class SourceRows:
    """ids, subjects: Arrow text. vectors: array [n, D] float16 or float32. columns: Arrow arrays by name."""

    ids: pa.Array
    subjects: pa.Array
    vectors: np.ndarray
    columns: dict[str, pa.Array] = field(default_factory=dict)


class Source(Protocol):
    """An open file. rows: None where only reading tells. schema: what an export of ours says of itself."""

    url: str
    dim: int
    rows: int | None
    schema: GallerySchema | None

    def batches(self, columns: Mapping[str, pa.DataType]) -> Iterator[SourceRows]:
        """All rows with these further columns. Raises OccframeError naming the file, and what is wrong in it."""


@dataclass(frozen=True)
class Imported:
    """added: rows written. skipped: rows whose ids were there already and were left as they are."""

    added: int
    skipped: int


def open_source(url: str, columns: SourceColumns, *, rows: str | None = None) -> Source:
    """By its suffix: ``.parquet`` or a folder of such files, ``.npy`` or a folder with one, ``.csv``.

    rows: for ``.npy``, a CSV file that names the rows; ``rows.csv`` beside it by default. Raises OccframeError.
    """
    from occframe.gallery.source_csv import CsvSource
    from occframe.gallery.source_numpy import NumpySource, find_numpy
    from occframe.gallery.source_parquet import ParquetSource, find_parquet

    fs, path = filesystem(url)
    if not fs.exists(path):
        raise OccframeError(f"there is nothing at {url}", remedy="check the path")
    if array := find_numpy(url):
        return NumpySource(array, columns, rows)
    if url.lower().endswith((".csv", ".csv.gz")):
        return CsvSource(url, columns)
    if files := find_parquet(url):
        return ParquetSource(url, files, columns)
    raise OccframeError(
        f"{url} is no file of embeddings that can be read",
        remedy="give a .parquet, .npy or .csv file, or a folder of .parquet files",
    )


def import_rows(
    url: str,
    source: Source,
    schema: GallerySchema,
    *,
    normalise: bool = False,
    existing: Existing = "error",
    advance: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Add the rows of ``source`` to the gallery at ``url``, made with ``schema`` where there is none.

    normalise: divide each embedding by its L2 norm; else one that has not norm 1 is refused. existing: what to do with
    an id that is there. Committed part by part: after an interruption the same call with ``skip`` goes on.
    Raises OccframeError: what ``GalleryWriter`` refuses, and embeddings of another dimension or model.
    """
    check_fits(source, schema)
    batches = source.batches({name: arrow_schema(schema).field(name).type for name in schema.columns})
    first = next(batches, None)
    if first is None:
        raise OccframeError(f"{source.url} has no rows")
    # Looked at before a gallery is made for it.
    check_vectors(_of_norm_1(first.vectors) if normalise else first.vectors, first.ids.to_pylist(), dim=schema.dim)
    added = skipped = 0
    with GalleryWriter(url, schema, replace=existing == "replace") as writer:
        for rows in chain([first], batches):
            read = len(rows.ids)
            if existing == "skip" and (there := writer.known(rows.ids.to_pylist())):
                left = pa.array([row for row, name in enumerate(rows.ids.to_pylist()) if name not in there], pa.int64())
                rows = SourceRows(
                    rows.ids.take(left),
                    rows.subjects.take(left),
                    rows.vectors[left.to_numpy()],
                    {name: values.take(left) for name, values in rows.columns.items()},
                )
            vectors = _of_norm_1(rows.vectors) if normalise else rows.vectors
            writer.write(rows.ids.to_pylist(), rows.subjects, vectors, rows.columns)
            added += len(rows.ids)
            skipped += read - len(rows.ids)
            advance(read)
    return Imported(added, skipped)


def check_fits(source: Source, schema: GallerySchema) -> None:
    """Raises OccframeError where the rows are of another dimension, or say that they are of another model."""
    if source.dim != schema.dim:
        raise OccframeError(
            f"{source.url} holds embeddings of dimension {source.dim}, the gallery is for {schema.dim}",
            remedy="they come from another model; use a gallery of their own",
        )
    said = source.schema
    if said is not None and said.model_fingerprint != schema.model_fingerprint:
        raise OccframeError(
            f"{source.url} says it is of model {said.model_fingerprint}, the gallery is of {schema.model_fingerprint}",
            remedy="scores between two models mean nothing: use a gallery of its own, or embed everything again",
        )
    if said is not None and said.treatment != schema.treatment:
        raise OccframeError(
            f"the pictures behind {source.url} had the treatment {said.treatment}, those of the gallery "
            f"{schema.treatment}",
            remedy="use a gallery of their own",
        )


def _of_norm_1(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    # A zero vector stays one, so that it is refused by name.
    np.divide(wide, norms, out=wide, where=norms > 0)
    return wide
