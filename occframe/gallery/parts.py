"""Reading one part: row group by row group, its vectors mapped where they lie, the file named in every error."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from occframe.errors import OccframeError, first_line
from occframe.gallery.layout import fingerprint_of, rows_per_group, vectors_of
from occframe.gallery.manifest import GallerySchema, Part
from occframe.gallery.pages import find_runs
from occframe.storage import filesystem, join, local_path

_RESTORE = "restore it from a copy, or embed again"
#: Of one column in one row group, as the file itself says: a few bytes of zstd may claim a terabyte.
MOST_CHUNK_BYTES = 2**30


@dataclass(frozen=True)
class Group:
    """Consecutive rows of a part, deleted ones among them.

    first: number of the first row in the part; rows: how many. columns: those asked for, by name.
    vectors: array [n, D], read-only; on a local disk usually the file itself, mapped; [0, D] where not asked for.
    """

    first: int
    rows: int
    columns: dict[str, pa.Array]
    vectors: np.ndarray


@contextmanager
def open_part(url: str, part: Part) -> Iterator[tuple[pq.ParquetFile, pa.NativeFile]]:
    """The part's Parquet file. Raises OccframeError: it is missing, shorter or longer than it was, or not readable."""
    where = join(url, part.file)
    try:
        with _source(where) as source:
            size = source.size() if isinstance(source, pa.NativeFile) else source.size
            if size != part.bytes:
                raise OccframeError(f"{where} has {size:,} bytes, the manifest says {part.bytes:,}", remedy=_RESTORE)
            # pre_buffer reads a whole column chunk ahead: memory that grows with the file, for nothing on a local disk.
            file = pq.ParquetFile(source, pre_buffer=False)
            if file.metadata.num_rows != part.rows:
                raise OccframeError(
                    f"{where} has {file.metadata.num_rows:,} rows, the manifest says {part.rows:,}", remedy=_RESTORE
                )
            yield file, source
    except FileNotFoundError as error:
        raise OccframeError(
            f"{where} is missing, and the manifest names it",
            remedy=f"open the gallery again, in case it was compacted since; else {_RESTORE}",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise OccframeError(f"{where} cannot be read: {first_line(error)}", remedy=_RESTORE) from error


@contextmanager
def _source(where: str) -> Iterator[pa.NativeFile]:
    path = local_path(where)
    if path is not None:
        with pa.memory_map(str(path)) as mapped:
            yield mapped
    else:
        fs, remote = filesystem(where)
        with fs.open(remote, "rb") as file:
            yield file


def read_groups(
    url: str, part: Part, schema: GallerySchema, columns: Sequence[str] = (), *, vectors: bool = True
) -> Iterator[Group]:
    """The rows of a part in order, about 4 MiB of vectors at a time.

    Raises OccframeError: missing or damaged, of another model than the manifest, without such a column.
    """
    where = join(url, part.file)
    wanted = [*columns, *(["embedding"] if vectors else [])]
    with open_part(url, part) as (file, source):
        _check_origin(where, file.schema_arrow, schema, wanted)
        check_sizes(where, file, wanted)
        mapped = _mapped(file, source, schema) if vectors and isinstance(source, pa.MemoryMappedFile) else None
        first = 0
        if mapped is not None:
            for number, rows in enumerate(mapped):
                table = file.read_row_group(number, columns=list(columns), use_threads=False) if columns else None
                yield Group(
                    first, len(rows), {name: table.column(name).combine_chunks() for name in columns if table}, rows
                )
                first += len(rows)
            return
        none = np.empty((0, schema.dim), schema.dtype)
        for batch in file.iter_batches(rows_per_group(schema), columns=wanted, use_threads=False):
            rows = vectors_of(batch.column("embedding"), schema, where) if vectors else none
            yield Group(first, batch.num_rows, {name: batch.column(name) for name in columns}, rows)
            first += batch.num_rows


def read_live(
    url: str, part: Part, schema: GallerySchema, columns: Sequence[str] = (), *, vectors: bool = True
) -> Iterator[Group]:
    """As ``read_groups``, but without deleted rows; nothing for a group that has no others."""
    dead = np.asarray(part.tombstones, np.int64)
    for group in read_groups(url, part, schema, columns, vectors=vectors):
        low, high = np.searchsorted(dead, [group.first, group.first + group.rows])
        if low == high:
            yield group
            continue
        alive = np.delete(np.arange(group.rows), dead[low:high] - group.first)
        if len(alive):
            taken = {name: values.take(pa.array(alive)) for name, values in group.columns.items()}
            yield Group(group.first, len(alive), taken, group.vectors[alive] if vectors else group.vectors)


def _mapped(file: pq.ParquetFile, source: pa.MemoryMappedFile, schema: GallerySchema) -> list[np.ndarray] | None:
    """The vectors of each row group as the file has them; None where it is not laid out as we write it."""
    runs = find_runs(file, source, "embedding", schema.row_bytes)
    if runs is None or len(runs) != file.num_row_groups:
        return None
    dtype, views = np.dtype(schema.dtype).newbyteorder("<"), []
    for _, rows, offset in runs.tolist():
        source.seek(offset)
        # Of a memory map a buffer is the map, not a copy, and keeps it.
        views.append(np.frombuffer(source.read_buffer(rows * schema.row_bytes), dtype).reshape(rows, schema.dim))
    return views


def _check_origin(where: str, found: pa.Schema, schema: GallerySchema, columns: Sequence[str]) -> None:
    if absent := [name for name in columns if name not in found.names]:
        raise OccframeError(f"{where} has no column {', '.join(absent)}; it has {', '.join(found.names)}")
    model = fingerprint_of(found)
    if model not in (None, schema.model_fingerprint):
        raise OccframeError(
            f"{where} holds embeddings of model {model}, the gallery is of {schema.model_fingerprint}",
            remedy="scores between two models mean nothing: take the part out, and embed those pictures again",
        )


def check_sizes(where: str, file: pq.ParquetFile, columns: Sequence[str]) -> None:
    """Raises OccframeError where a column's chunk says that it unpacks to more than is sensible."""
    leaves = [at for at in range(len(file.schema)) if file.schema.column(at).path.partition(".")[0] in columns]
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        for chunk in (group.column(at) for at in leaves):
            if chunk.total_uncompressed_size > MOST_CHUNK_BYTES:
                raise OccframeError(
                    f"{where}: row group {number} unpacks to {chunk.total_uncompressed_size:,} bytes of "
                    f"`{chunk.path_in_schema}`, at most {MOST_CHUNK_BYTES:,} are read",
                    remedy="write the file again with smaller row groups, if you trust where it is from",
                )


def live_rows(part: Part) -> np.ndarray:
    """Numbers of the rows that are not deleted: array int64, ascending."""
    return np.delete(np.arange(part.rows), part.tombstones) if part.tombstones else np.arange(part.rows)


def part_column(url: str, part: Part, name: str) -> pa.Array:
    """A text column of the rows that are not deleted, in order."""
    with open_part(url, part) as (file, _):
        where = join(url, part.file)
        if name not in file.schema_arrow.names:
            raise OccframeError(f"{where} has no column {name}; it has {', '.join(file.schema_arrow.names)}")
        check_sizes(where, file, [name])
        column = file.read(columns=[name], use_threads=False).column(name).cast(pa.large_string()).combine_chunks()
    return column.take(pa.array(live_rows(part))) if part.tombstones else column


def rows_where(url: str, part: Part, name: str, wanted: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Rows of the part that are not deleted and have one of the values ``wanted`` in column ``name``.

    Returns their numbers, array int64 ascending, and the values there.
    """
    column = part_column(url, part, name)
    found = np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy(zero_copy_only=False))
    return live_rows(part)[found], column.take(pa.array(found))


def verify_part(url: str, part: Part, advance: Callable[[int], None] = lambda size: None) -> None:
    """Raises OccframeError where the file's content is not what was written. advance: told of bytes that were read."""
    where = join(url, part.file)
    fs, path = filesystem(where)
    digest = hashlib.sha256()
    try:
        with fs.open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
                advance(len(block))
    except FileNotFoundError as error:
        raise OccframeError(f"{where} is missing, and the manifest names it", remedy=_RESTORE) from error
    if digest.hexdigest() != part.sha256:
        raise OccframeError(f"{where} was changed or damaged after it was written", remedy=_RESTORE)


def fill_from_file(url: str, part: Part, schema: GallerySchema, out: np.ndarray) -> bool:
    """Read the vectors of the rows that are not deleted straight into ``out``, array [part.count, D], C-contiguous.

    False, and nothing read, where the part is not on a local disk or not laid out as we write it.
    """
    path = local_path(join(url, part.file))
    if not part.count:
        return True
    if path is None or not out.flags.c_contiguous or sys.byteorder != "little":
        return False
    with open_part(url, part) as (parquet, source):
        _check_origin(join(url, part.file), parquet.schema_arrow, schema, ["embedding"])
        runs = find_runs(parquet, source, "embedding", schema.row_bytes)
    if runs is None:
        return False
    memory, width = memoryview(out.data).cast("B"), schema.row_bytes
    dead = np.asarray(part.tombstones, np.int64)
    at = 0
    with open(path, "rb", buffering=0) as file:
        for first, rows, offset in runs.tolist():
            low, high = np.searchsorted(dead, [first, first + rows])
            edges = [first - 1, *dead[low:high].tolist(), first + rows]
            for before, after in pairwise(edges):
                wanted = (after - before - 1) * width
                file.seek(offset + (before + 1 - first) * width)
                while wanted:
                    if not (got := file.readinto(memory[at : at + wanted])):
                        raise OccframeError(f"{path} ends too early", remedy=_RESTORE)
                    at, wanted = at + got, wanted - got
    return True
