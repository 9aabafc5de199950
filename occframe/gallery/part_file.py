"""Writing one part: row groups as they come, hashed on the way."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from occframe.gallery.layout import WRITE_OPTIONS, arrow_schema
from occframe.gallery.manifest import GallerySchema, Part
from occframe.gallery.publishing import flocked
from occframe.storage import create_file, filesystem, join, local_path

WRITERS_LOCK = "writers.lock"


@contextmanager
def unpublished(url: str) -> Iterator[None]:
    """What is written to the gallery's folder in here is published before it ends: no repair takes it for garbage.

    Remote stores have no such lock; there a repair leaves what is young.
    """
    folder = local_path(url)
    with ExitStack() as held:
        if folder is not None:
            held.enter_context(flocked(folder / WRITERS_LOCK, shared=True))
        yield


class NewPart:
    """A part being written. Nobody knows it until it is published; then call ``settled``, or else ``discard``."""

    def __init__(self, url: str, number: int, schema: GallerySchema) -> None:
        # The random tail keeps a second writer, or the next attempt after a kill, off this file.
        self._name = f"part-{number:06}-{uuid.uuid4().hex[:8]}.parquet"
        self._url = url
        self._claim = ExitStack()
        self._claim.enter_context(unpublished(url))
        self._stack = ExitStack()
        try:
            self._file = _HashingFile(self._stack.enter_context(create_file(join(url, self._name))))
            self._parquet = pq.ParquetWriter(self._file, arrow_schema(schema), **WRITE_OPTIONS)
        except BaseException:
            self.discard()
            raise
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a row group."""
        self._parquet.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> Part:
        """The file is whole and on disk."""
        self._parquet.close()
        self._stack.close()
        return Part(file=self._name, rows=self.rows, bytes=self._file.size, sha256=self._file.hash.hexdigest())

    def settled(self) -> None:
        """It was published, or never will be."""
        self._claim.close()

    def discard(self) -> None:
        # Closed first, or Arrow closes it some time later and writes into a file that is gone.
        with suppress(OSError, pa.ArrowException, AttributeError):
            self._parquet.close()
        self._stack.__exit__(_Discarded, _Discarded(), None)
        self._claim.close()

    def remove(self) -> None:
        """Of one that was closed, and certainly not published: a commit that failed half-way may have gone through."""
        remove_file(self._url, self._name)


def remove_file(url: str, name: str) -> None:
    """Where it is there."""
    fs, path = filesystem(join(url, name))
    with suppress(FileNotFoundError):
        fs.rm_file(path)


class _Discarded(Exception):
    """Tells ``create_file`` that the part is not wanted."""


class _HashingFile:
    """Passes bytes on and remembers their hash, so that a part is not read back to be described."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
