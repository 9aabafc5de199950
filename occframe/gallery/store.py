"""A gallery: embeddings with ids and subjects, in Parquet on any file system, of one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from occframe.errors import OccframeError
from occframe.gallery.checks import NORM_TOLERANCE
from occframe.gallery.compaction import Compacted, compact
from occframe.gallery.manifest import GallerySchema, Manifest, Part
from occframe.gallery.parts import fill_from_file, part_column, read_live, rows_where, verify_part
from occframe.gallery.publishing import commit, create, read_manifest
from occframe.gallery.rows import RowReader
from occframe.gallery.snapshot import Changes, Snapshot, changes_between
from occframe.gallery.writer import GalleryWriter
from occframe.machine import check_memory
from occframe.storage import make_dirs
from occframe.types import EmbeddingTable


@dataclass(frozen=True)
class GalleryBatch:
    """Rows of one row group. vectors: array [n, D] float16 or float32, read-only and valid as long as the batch is.

    columns: the further columns asked for, arrays of n values by name.
    """

    ids: list[str]
    subjects: list[str]
    vectors: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


class Gallery:
    """Open with ``Gallery.open(url)``: sees what was committed then, and what it adds or deletes itself."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url = url
        self._manifest = manifest

    @classmethod
    def open(cls, url: str) -> Gallery:
        """Raises OccframeError where there is none, or its manifest is not one this version reads."""
        return cls(url, read_manifest(url))

    @classmethod
    def create(cls, url: str, schema: GallerySchema) -> Gallery:
        """A new one without rows. Raises OccframeError where there is one already."""
        make_dirs(url)
        if not create(url, Manifest(generation=0, schema=schema)):
            raise OccframeError(f"there is a gallery at {url} already", remedy="add to it, or choose another place")
        return cls.open(url)

    def reload(self) -> None:
        """See what was committed since."""
        self._manifest = read_manifest(self.url)

    @property
    def schema(self) -> GallerySchema:
        return self._manifest.rows_schema

    @property
    def parts(self) -> tuple[Part, ...]:
        """In order of commit: a new one comes last, and keeps its place until the gallery is compacted."""
        return self._manifest.parts

    @property
    def count(self) -> int:
        return self._manifest.count

    @property
    def dim(self) -> int:
        return self.schema.dim

    @property
    def fingerprint(self) -> str:
        """Of the model that made the embeddings."""
        return self.schema.model_fingerprint

    @property
    def generation(self) -> int:
        """Goes up with every commit."""
        return self._manifest.generation

    @property
    def content_hash(self) -> str:
        """Changes with every row added, deleted or different: what an index is valid for."""
        return self._manifest.content_hash

    @property
    def snapshot(self) -> Snapshot:
        """What an index of this gallery keeps, to ask ``changes_since`` later."""
        return Snapshot(rows_schema=self.schema, parts=self.parts)

    def changes_since(self, snapshot: Snapshot) -> Changes | None:
        """What an index built at ``snapshot`` lacks and must not find; None where it has to be built anew."""
        return changes_between(snapshot, self._manifest)

    # --- reading ------------------------------------------------------------------------------------------------------

    def iter_batches(
        self, *, columns: Sequence[str] = (), parts: Sequence[Part] | None = None
    ) -> Iterator[GalleryBatch]:
        """All rows in order of writing, or those of ``parts``, one row group (about 4 MiB of vectors) at a time.

        Without deleted rows the vectors are the mapped file itself on a local disk, not a copy. columns: further
        columns to read. Raises OccframeError: a part is missing, damaged, of another model or without such a column.
        """
        wanted = ["id", "subject", *columns]
        for part in self.parts if parts is None else parts:
            for group in read_live(self.url, part, self.schema, wanted):
                found = group.columns
                yield GalleryBatch(
                    found["id"].to_pylist(),
                    found["subject"].to_pylist(),
                    group.vectors,
                    {name: found[name].to_numpy(zero_copy_only=False) for name in columns},
                )

    def iter_vectors(self, parts: Sequence[Part] | None = None) -> Iterator[np.ndarray]:
        """The vectors alone, as ``iter_batches`` gives them: arrays [n, D] of the gallery's dtype, read-only.

        Ids cost more than vectors to read; ``read_ids`` has them as one Arrow array.
        """
        for part in self.parts if parts is None else parts:
            for group in read_live(self.url, part, self.schema):
                yield group.vectors

    def read_ids(self, parts: Sequence[Part] | None = None, column: str = "id") -> pa.Array:
        """Ids, or another text column, of all rows in order: an Arrow array of large_string."""
        pieces = [part_column(self.url, part, column) for part in (self.parts if parts is None else parts)]
        return pa.concat_arrays(pieces) if pieces else pa.array([], pa.large_string())

    def read_vectors(self, out: np.ndarray | None = None) -> np.ndarray:
        """All vectors, array [count, D] of the gallery's dtype, bit for bit. out: an array of that shape to fill.

        Raises OccframeError also where they do not fit into memory.
        """
        dtype = np.dtype(self.schema.dtype)
        if out is None:
            check_memory(self.count * self.schema.row_bytes, f"the vectors of {self.url}")
            out = np.empty((self.count, self.dim), dtype)
        elif out.shape != (self.count, self.dim) or out.dtype != dtype:
            raise OccframeError(
                f"the gallery {self.url} has {self.count} × {self.dim} {dtype}, the array is {out.shape} {out.dtype}"
            )
        first = 0
        for part in self.parts:
            fill = fill_from_file(self.url, part, self.schema, out[first : first + part.count])
            if not fill:
                row = first
                for vectors in self.iter_vectors([part]):
                    out[row : row + len(vectors)] = vectors
                    row += len(vectors)
            first += part.count
        return out

    def open_rows(self, snapshot: Snapshot | None = None) -> RowReader:
        """Vectors of single rows by number, for re-ranking: in the order of ``snapshot``, or of now."""
        return RowReader(self.url, self.schema, self.parts if snapshot is None else snapshot.parts)

    def read(self) -> EmbeddingTable:
        """Everything at once: vectors [count, D] float32, normalised anew after the rounding of float16.

        Raises OccframeError, also for a stored vector that is not of norm 1: then the file was damaged.
        """
        check_memory(self.count * self.dim * 4, f"the embeddings of {self.url}")
        vectors = np.empty((self.count, self.dim), np.float32)
        ids: list[str] = []
        subjects: list[str] = []
        for batch in self.iter_batches():
            rows = slice(len(ids), len(ids) + len(batch.ids))
            vectors[rows] = batch.vectors
            ids += batch.ids
            subjects += batch.subjects
            norms = np.linalg.norm(vectors[rows], axis=1, keepdims=True)
            bad = np.flatnonzero(~(np.abs(norms[:, 0] - 1) <= 2 * NORM_TOLERANCE))
            if len(bad):
                raise OccframeError(
                    f"{self.url}: the stored embedding of `{batch.ids[bad[0]]}` has norm {norms[bad[0], 0]:.4g}, not 1",
                    remedy="the part was damaged after it was written: restore it from a copy, or embed again",
                )
            vectors[rows] /= norms
        return EmbeddingTable(ids, subjects, vectors)

    def verify(self) -> None:
        """Read every part and compare it with what was written. Raises OccframeError naming the first that differs."""
        for part in self._manifest.parts:
            verify_part(self.url, part)

    # --- changing -----------------------------------------------------------------------------------------------------

    def append(
        self,
        ids: Sequence[str],
        subjects: Sequence[str],
        vectors: np.ndarray,
        *,
        model_fingerprint: str,
        columns: Mapping[str, Sequence[Any]] | None = None,
        replace: bool = False,
    ) -> None:
        """Add rows and commit them. vectors: array [n, D] float16 or float32 of norm 1, made by that model.

        replace: rows whose ids are there already take their place. Raises OccframeError, and changes nothing: see
        ``GalleryWriter``.
        """
        schema = self.schema.model_copy(update={"model_fingerprint": model_fingerprint})
        with GalleryWriter(self.url, schema, replace=replace) as writer:
            writer.write(ids, subjects, vectors, columns)
        self.reload()

    def delete(self, ids: Sequence[str] = (), *, subjects: Sequence[str] = (), missing_ok: bool = False) -> int:
        """No reader sees the rows of these ids and subjects again; the ids may be added anew. Returns how many.

        Their bytes stay until the gallery is compacted. Raises OccframeError, and deletes nothing, where an id or a
        subject is not there, unless ``missing_ok``.
        """
        count = 0

        def bury(current: Manifest) -> Manifest:
            nonlocal count
            dead: dict[str, list[int]] = {}
            for name, wanted in (("id", set(ids)), ("subject", set(subjects))):
                unknown, values = set(wanted), pa.array(wanted, pa.large_string())
                for part in current.parts if wanted else ():
                    rows, found = rows_where(self.url, part, name, values)
                    unknown.difference_update(found.to_pylist())
                    if len(rows):
                        dead.setdefault(part.file, []).extend(rows.tolist())
                if unknown and not missing_ok:
                    raise OccframeError(
                        f"the gallery {self.url} has no {name} `{min(unknown)}` "
                        f"({len(unknown)} of {len(wanted)} are unknown)",
                        remedy="nothing was deleted; leave out what is not there",
                    )
            buried = current.bury(dead)
            count = current.count - buried.count
            return buried

        self._manifest = commit(self.url, bury)
        return count

    def compact(self, advance: Callable[[int], None] = lambda rows: None) -> Compacted:
        """Rewrite what holds deleted rows, so that no byte of them is left, and join small parts. See ``compact``."""
        done = compact(self.url, advance=advance)
        self.reload()
        return done
