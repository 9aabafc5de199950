"""How a matcher keeps its index on any file system: its own file of vectors, the ids, and a header published last."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from occframe.component import Config
from occframe.errors import OccframeError, first_line
from occframe.storage import create_file, exists, filesystem, join, make_dirs, read_bytes, write_json

HEADER = "index.json"
_REBUILD = "run the `index` step again: an index can always be rebuilt from its gallery"

# A header may come from a stranger: names are plain files beside it, never paths.
_FileName = Annotated[str, Field(pattern=r"^(vectors|ids)-[0-9a-f]+\.(bin|parquet)$")]


class _Header(Config):
    format: Literal["occframe-index"] = "occframe-index"
    version: Literal[1] = 1
    matcher: str
    count: int = Field(ge=0)
    vectors: _FileName
    vectors_bytes: int = Field(ge=0)
    ids: _FileName
    details: dict[str, Any]


@dataclass(frozen=True)
class SavedIndex:
    """details: what the matcher said of itself. ids: LargeStringArray, of the rows in order. vectors: of its file."""

    url: str
    details: Mapping[str, Any]
    ids: pa.Array
    vectors: str

    @contextmanager
    def open_vectors(self) -> Iterator[BinaryIO]:
        """The matcher's own file. Whatever goes wrong while reading it becomes an OccframeError that names it."""
        fs, path = filesystem(self.vectors)
        try:
            with fs.open(path, "rb") as file:
                yield file
        except OccframeError:
            raise
        except Exception as error:  # index libraries raise anything from RuntimeError to MemoryError at a damaged file
            *_, reason = str(error).strip().splitlines() or [type(error).__name__]
            raise OccframeError(f"the index {self.vectors} cannot be read: {reason}", remedy=_REBUILD) from error


def save_index(
    url: str,
    *,
    matcher: str,
    ids: Sequence[str] | pa.Array,
    details: Mapping[str, Any],
    write: Callable[[BinaryIO], None],
) -> None:
    """Replace the index at ``url``. write: puts the matcher's vectors into the file it is given, row i for ``ids[i]``.

    details: plain JSON for the header. A kill leaves the old index or the new one, and perhaps an unused file.
    """
    make_dirs(url)
    old = None
    with suppress(OccframeError):  # a damaged one is replaced like any other
        old = _read_header(url) if exists(join(url, HEADER)) else None
    token = uuid.uuid4().hex[:12]
    vectors_file, ids_file = f"vectors-{token}.bin", f"ids-{token}.parquet"
    with create_file(join(url, vectors_file)) as file:
        write(file)
        written = file.tell()
    with create_file(join(url, ids_file)) as file:
        column = pa.chunked_array([ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())])
        pq.write_table(pa.table({"id": column}), file, compression="zstd", use_dictionary=False)
    header = _Header(
        matcher=matcher,
        count=len(ids),
        vectors=vectors_file,
        vectors_bytes=written,
        ids=ids_file,
        details=dict(details),
    )
    write_json(join(url, HEADER), header.model_dump(mode="json"))
    if old is not None:
        fs, path = filesystem(url)
        for name in (old.vectors, old.ids):
            with suppress(FileNotFoundError):
                fs.rm_file(join(path, name))


def load_index(url: str, *, matcher: str) -> SavedIndex:
    """What ``save_index`` put there. Raises OccframeError: none there, another matcher's, or damaged."""
    if not exists(join(url, HEADER)):
        raise OccframeError(f"there is no index at {url}: no {HEADER}", remedy=_REBUILD)
    header = _read_header(url)
    if header.matcher != matcher:
        raise OccframeError(
            f"the index {url} was built by matcher `{header.matcher}`, not `{matcher}`",
            remedy=f"use `matcher: {header.matcher}`, or run the `index` step again",
        )
    vectors, ids_file = join(url, header.vectors), join(url, header.ids)
    try:
        size = filesystem(vectors)[0].size(filesystem(vectors)[1])
        fs, path = filesystem(ids_file)
        with fs.open(path, "rb") as file:
            ids = pq.read_table(file).column("id").cast(pa.large_string()).combine_chunks()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise OccframeError(f"the index {url} is incomplete: {first_line(error)}", remedy=_REBUILD) from error
    if size != header.vectors_bytes or len(ids) != header.count:
        raise OccframeError(
            f"the index {url} is damaged: its header says {header.vectors_bytes:,} bytes and {header.count:,} ids, "
            f"there are {size:,} and {len(ids):,}",
            remedy=_REBUILD,
        )
    return SavedIndex(url, header.details, ids, vectors)


def _read_header(url: str) -> _Header:
    where = join(url, HEADER)
    try:
        raw = json.loads(read_bytes(where))
        return _Header.model_validate(raw)
    except (ValidationError, ValueError) as error:
        raise OccframeError(
            f"{where} is no header of an index this occframe reads: {first_line(error)}", remedy=_REBUILD
        ) from error
