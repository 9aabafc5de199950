"""Pieces of files on any fsspec URL, many at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from occframe.errors import OccframeError
from occframe.storage import filesystem, local_path


class RangeFile:
    """One file, read by (offset, size). Holds no open file, so that any thread may read and there may be thousands.

    size: bytes it has. Raises OccframeError where there is no such file.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._path = filesystem(url)
        self._local: Path | None = local_path(url)
        if not self._fs.isfile(self._path):
            raise OccframeError(f"there is no file at {url}", remedy="check the path or URL")
        self.info = self._fs.info(self._path)
        self.size = int(self.info["size"])

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, size). Raises OccframeError where storage fails or the file became shorter."""
        try:
            found = self._read_local(ranges) if self._local else self._read_remote(ranges)
        except OSError as error:
            raise OccframeError(
                f"{self.url} cannot be read: {error}", remedy="restore it or make it readable, then run again"
            ) from error
        for (offset, size), piece in zip(ranges, found, strict=True):
            if len(piece) < size:
                raise OccframeError(
                    f"{self.url} ends before byte {offset + size}", remedy="it was cut short; fetch it again"
                )
        return found

    def _read_local(self, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        assert self._local is not None
        descriptor = os.open(self._local, os.O_RDONLY)
        try:
            return [os.pread(descriptor, size, offset) for offset, size in ranges]
        finally:
            os.close(descriptor)

    def _read_remote(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        starts = [offset for offset, _ in ranges]
        ends = [offset + size for offset, size in ranges]
        paths = [self._path] * len(ranges)
        return [bytes(piece) for piece in self._fs.cat_ranges(paths, starts, ends, on_error="raise")]
