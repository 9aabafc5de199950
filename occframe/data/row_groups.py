"""The image column of Parquet files, row group by row group, with the groups used last kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from occframe.errors import OccframeError, first_line
from occframe.storage import filesystem, local_path


class PartFile:
    """One Parquet file; holds its metadata but no open file, so that any thread may read and there may be thousands.

    name: its path below the data set's URL, without the suffix. path: within ``fs``. info: as ``fs.info`` gives it.
    """

    def __init__(self, fs: Any, name: str, path: str, info: Mapping[str, Any], *, local: bool) -> None:
        self.name, self.path, self.info = name, path, info
        self._fs, self._local = fs, local
        self._metadata = None
        with self._open() as file:
            self._metadata = file.metadata
            self.schema: pa.Schema = file.schema_arrow

    def group_sizes(self) -> list[int]:
        """Rows of each row group."""
        return [self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups)]

    def require(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.schema.names:
                near = get_close_matches(name, self.schema.names, n=1)
                hint = f"did you mean `{near[0]}`? " if near else ""
                raise OccframeError(
                    f"{self.path} has no column `{name}`", remedy=f"{hint}columns: {', '.join(self.schema.names)}"
                )

    def picture_leaf(self, column: str) -> str:
        """The Parquet leaf that holds the encoded bytes of ``column``."""
        kind = self.schema.field(column).type
        leaf = column
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            leaf, kind = f"{column}.bytes", kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise OccframeError(
                f"{self.path}: column `{column}` holds {kind}, not pictures",
                remedy="it must hold encoded bytes (JPEG, PNG …), or structs with a field `bytes`",
            )
        return leaf

    def picture_bytes(self, leaf: str) -> list[int]:
        """Size of the pictures of each row group, uncompressed."""
        paths = [self.metadata.schema.column(at).path for at in range(self.metadata.num_columns)]
        at = paths.index(leaf)
        groups = range(self.metadata.num_row_groups)
        return [self.metadata.row_group(group).column(at).total_uncompressed_size for group in groups]

    def read_column(self, name: str) -> pa.ChunkedArray:
        with self._open() as file:
            column = file.read([name])[name]
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def read_pictures(self, group: int, leaf: str) -> Pictures:
        with self._open() as file:
            array = file.read_row_group(group, columns=[leaf], use_threads=False).column(0).combine_chunks()
        return Pictures(array.field("bytes") if pa.types.is_struct(array.type) else array)

    @property
    def metadata(self) -> Any:
        return self._metadata

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            source = nullcontext(self.path) if self._local else self._fs.open(self.path, "rb")
            with source as opened, pq.ParquetFile(opened, metadata=self._metadata, memory_map=self._local) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise OccframeError(
                f"{self.path} cannot be read as Parquet: {first_line(error)}",
                remedy="it is no Parquet file, is damaged, or its storage failed; fetch it again",
            ) from error


class Pictures:
    """The pictures of one row group: bytes by row, b"" where there are none."""

    def __init__(self, array: pa.Array) -> None:
        self.nbytes: int = array.nbytes
        width = np.int64 if pa.types.is_large_binary(array.type) else np.int32
        _, offsets, data = array.buffers()
        # A null row's offsets are equal, so that it reads as b"".
        self._offsets = np.frombuffer(offsets, width)[array.offset : array.offset + len(array) + 1].tolist()
        self._data = memoryview(data if data is not None else b"")

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._data[self._offsets[row] : self._offsets[row + 1]])


class PictureCache:
    """Row groups by number, the ones used last kept up to ``limit`` bytes. Thread-safe."""

    def __init__(self, groups: list[tuple[PartFile, int, str]], limit: int) -> None:
        self.limit = limit
        self._groups = groups
        self._held: OrderedDict[int, Pictures] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._loading: dict[int, Lock] = {}

    def __getitem__(self, key: int) -> Pictures:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            loading = self._loading.setdefault(key, Lock())
        with loading:  # threads that want the same group wait for the one that reads it
            with self._lock:
                if key in self._held:
                    return self._held[key]
            part, group, leaf = self._groups[key]
            pictures = part.read_pictures(group, leaf)
            with self._lock:
                self._held[key] = pictures
                self._bytes += pictures.nbytes
                while self._bytes > self.limit and len(self._held) > 1:
                    self._bytes -= self._held.popitem(last=False)[1].nbytes
                self._loading.pop(key, None)
            return pictures


def open_parts(url: str) -> list[PartFile]:
    """The file at ``url``, or all ``.parquet`` files below it by name.

    Raises OccframeError where there is none, or one is not Parquet.
    """
    fs, path = filesystem(url)
    local = local_path(url) is not None
    if fs.isfile(path):
        name = path.rpartition("/")[2].removesuffix(".parquet")
        return [PartFile(fs, name, path, fs.info(path), local=local)]
    if not fs.exists(path):
        raise OccframeError(f"there is no Parquet file or folder at {url}", remedy="check the path or URL")
    found = {name[len(path) :].strip("/"): (name, info) for name, info in fs.find(path, detail=True).items()}
    # Names with _ and . are what Spark and half-finished copies leave behind.
    kept = sorted(
        inside
        for inside in found
        if inside.endswith(".parquet") and not any(piece.startswith((".", "_")) for piece in inside.split("/"))
    )
    if not kept:
        raise OccframeError(f"the folder {url} holds no file that ends in .parquet", remedy="check the path or URL")
    return [PartFile(fs, inside.removesuffix(".parquet"), *found[inside], local=local) for inside in kept]
