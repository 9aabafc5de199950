"""Compacting: parts are rewritten without their deleted rows, and the old files removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from occframe.errors import OccframeError
from occframe.gallery.garbage import remove_garbage
from occframe.gallery.layout import arrow_schema, embedding_array, rows_per_group
from occframe.gallery.manifest import GallerySchema, Manifest, Part
from occframe.gallery.part_file import NewPart, remove_file
from occframe.gallery.parts import live_rows, read_live
from occframe.gallery.publishing import commit, read_manifest
from occframe.gallery.writer import ROWS_PER_PART


@dataclass(frozen=True)
class Compacted:
    """rewritten, written: parts before and after. removed: deleted rows that are gone for good.

    dropped: what was removed besides, by name: indexes built of the old parts, and files that no manifest named.
    left: such files that stay because another writer is at work and may be about to publish them.
    """

    rewritten: int
    written: int
    removed: int
    dropped: tuple[str, ...]
    left: tuple[str, ...]


def compact(
    url: str, *, rows_per_part: int = ROWS_PER_PART, advance: Callable[[int], None] = lambda rows: None
) -> Compacted:
    """Rewrite every part of the gallery at ``url`` that has deleted rows, and join small neighbours; order is kept.

    Committed part by part: a kill loses nothing, and the next call goes on. Rows that others add or delete meanwhile
    stay added or deleted. Indexes built of parts that are gone are removed, because they hold the deleted vectors too.
    advance: told of live rows written. Raises OccframeError where another process compacts the same parts.
    """
    manifest = read_manifest(url)
    rewritten = written = removed = 0
    for sources in units(manifest.parts, rows_per_part):
        made = _rewrite(url, manifest, sources, advance)
        rewritten += len(sources)
        written += made is not None
        removed += sum(len(part.tombstones) for part in sources)
    dropped, left = remove_garbage(url)
    return Compacted(rewritten, written, removed, tuple(dropped), tuple(left))


def units(parts: Sequence[Part], rows_per_part: int) -> list[list[Part]]:
    """Neighbours that become one part of at most ``rows_per_part`` rows; parts that may stay as they are left out."""
    found: list[list[Part]] = [[]]
    rows = 0
    for part in parts:
        whole = not part.tombstones and part.rows > rows_per_part // 2
        if whole or rows + part.count > rows_per_part:
            found.append([])
            rows = 0
        if not whole:
            found[-1].append(part)
            rows += part.count
    return [unit for unit in found if len(unit) > 1 or any(part.tombstones for part in unit)]


def _rewrite(url: str, manifest: Manifest, sources: Sequence[Part], advance: Callable[[int], None]) -> Part | None:
    schema, new = manifest.rows_schema, None
    file = NewPart(url, manifest.parts.index(sources[0]), schema) if any(part.count for part in sources) else None
    if file is not None:
        try:
            for batch in _batches(url, sources, schema):
                file.write(batch)
                advance(batch.num_rows)
            new = file.close()
        except BaseException:
            file.discard()
            raise

    def replace(current: Manifest) -> Manifest:
        if new is not None and any(new.file == part.file for part in current.parts):
            return current
        names = [part.file for part in current.parts]
        start = names.index(sources[0].file) if sources[0].file in names else -1
        there = current.parts[start : start + len(sources)] if start >= 0 else ()
        if [part.sha256 for part in there] != [part.sha256 for part in sources]:
            if file is not None:
                file.remove()
            raise OccframeError(
                f"another process compacted the gallery {url} at the same time",
                remedy="nothing was lost; run `occframe gallery compact` again if deleted rows are left",
            )
        kept = () if new is None else (new.bury(_moved(sources, there)),)
        parts = (*current.parts[:start], *kept, *current.parts[start + len(sources) :])
        return current.model_copy(update={"parts": parts})

    try:
        commit(url, replace)
    finally:
        if file is not None:
            file.settled()
    for part in sources:
        remove_file(url, part.file)
    return new


def _moved(sources: Sequence[Part], there: Sequence[Part]) -> list[int]:
    """Where the rows went that were deleted while they were copied."""
    moved, first = [], 0
    for before, now in zip(sources, there, strict=True):
        alive = live_rows(before)
        moved += (first + np.flatnonzero(np.isin(alive, now.tombstones))).tolist()
        first += len(alive)
    return moved


def _batches(url: str, sources: Sequence[Part], schema: GallerySchema) -> Iterator[pa.RecordBatch]:
    """The live rows of ``sources`` in row groups as they are written: full ones, the last one excepted."""
    fields = arrow_schema(schema)
    size = rows_per_group(schema)
    names = [name for name in fields.names if name != "embedding"]
    held: list[tuple[dict[str, pa.Array], np.ndarray]] = []

    def joined() -> pa.RecordBatch:
        vectors = np.concatenate([rows for _, rows in held])
        arrays = [
            embedding_array(vectors)
            if field.name == "embedding"
            else pa.concat_arrays([columns[field.name].cast(field.type) for columns, _ in held])
            for field in fields
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=fields)

    count = 0
    for part in sources:
        for group in read_live(url, part, schema, names):
            vectors = group.vectors.astype(np.dtype(schema.dtype).newbyteorder("<"), copy=False)
            start = 0
            while start < group.rows:
                step = min(size - count, group.rows - start)
                columns = {name: values.slice(start, step) for name, values in group.columns.items()}
                held.append((columns, vectors[start : start + step]))
                start, count = start + step, count + step
                if count == size:
                    yield joined()
                    held, count = [], 0
    if held:
        yield joined()
