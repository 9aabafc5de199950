"""Reading one part: row group by row group, without a copy, and with the file named in every error."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from occframe.errors import OccframeError, first_line
from occframe.gallery.layout import fingerprint_of
from occframe.gallery.manifest import GallerySchema, Part
from occframe.storage import filesystem, join, local_path

_RESTORE = "restore it from a copy, or embed again"


@contextmanager
def open_part(url: str, part: Part) -> Iterator[pq.ParquetFile]:
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
            yield file
    except FileNotFoundError as error:
        raise OccframeError(f"{where} is missing, and the manifest names it", remedy=_RESTORE) from error
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


def row_groups(url: str, part: Part, schema: GallerySchema, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The named columns, a row group at a time; deleted rows are still in it.

    Raises OccframeError where the file says it is of another model than the manifest.
    """
    with open_part(url, part) as file:
        _check_origin(join(url, part.file), file.schema_arrow, schema, columns)
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=list(columns), use_threads=False).to_batches()


def _check_origin(where: str, found: pa.Schema, schema: GallerySchema, columns: Sequence[str]) -> None:
    if absent := [name for name in columns if name not in found.names]:
        raise OccframeError(f"{where} has no column {', '.join(absent)}; it has {', '.join(found.names)}")
    model = fingerprint_of(found)
    if model not in (None, schema.model_fingerprint):
        raise OccframeError(
            f"{where} holds embeddings of model {model}, the gallery is of {schema.model_fingerprint}",
            remedy="scores between two models mean nothing: take the part out, and embed those pictures again",
        )


def part_ids(url: str, part: Part) -> list[str]:
    """Ids of the rows that are not deleted, in order."""
    with open_part(url, part) as file:
        ids: list[str] = file.read(columns=["id"], use_threads=False).column("id").to_pylist()
    dead = set(part.tombstones)
    return [item for row, item in enumerate(ids) if row not in dead] if dead else ids


def verify_part(url: str, part: Part) -> None:
    """Raises OccframeError where the file's content is not what was written."""
    where = join(url, part.file)
    fs, path = filesystem(where)
    digest = hashlib.sha256()
    try:
        with fs.open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except FileNotFoundError as error:
        raise OccframeError(f"{where} is missing, and the manifest names it", remedy=_RESTORE) from error
    if digest.hexdigest() != part.sha256:
        raise OccframeError(f"{where} was changed or damaged after it was written", remedy=_RESTORE)
