"""Writes faces as ``ParquetFaces`` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from occframe.errors import OccframeError
from occframe.storage import create_file

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}
# A row group is what is read at once: small enough to hold many of them in memory and shuffle among them.
_ROWS, _BYTES = 1024, 16 << 20


class FaceParquetWriter:
    """Writes one Parquet file on any fsspec URL, which appears when the ``with`` block ends and not if it raises.

    extra: further columns and their Python types (str, int, float, bool, bytes). aligned: what ``Dataset.aligned``
    will say.
    """

    def __init__(self, url: str, *, extra: Mapping[str, type] | None = None, aligned: bool = True) -> None:
        self.url = url
        self._extra = dict(extra or {})
        fields = {
            "id": pa.string(),
            "identity": pa.string(),
            "image": pa.binary(),
            "landmarks": pa.list_(pa.float32(), 10),
        }
        fields |= {name: _TYPES[kind] for name, kind in self._extra.items()}
        self._schema = pa.schema(fields, metadata={"occframe.aligned": "true" if aligned else "false"})
        self._ids: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._pending = 0
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        file = self._closing.enter_context(create_file(self.url))
        packed = {"image", "landmarks", *(name for name, kind in self._extra.items() if kind is bytes)}
        plain = [name for name in self._schema.names if name not in packed]
        self._file = pq.ParquetWriter(
            file,
            self._schema,
            # Pictures do not compress again, and nobody looks for the least of them.
            compression={name: "ZSTD" if name in plain else "NONE" for name in self._columns()},
            use_dictionary=[name for name in plain if name != "id"],
            write_statistics=plain,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
            self._file.close()
        except BaseException as failure:
            self._closing.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._closing.__exit__(kind, error, traceback)

    def add(
        self, id: str, identity: str, image: np.ndarray | bytes, landmarks: np.ndarray | None = None, **extra: Any
    ) -> None:
        """One face. Raises OccframeError for an id that was there before.

        image: array [H, W, 3] uint8 RGB, stored as PNG, or encoded bytes, stored as they are. landmarks: array [5, 2]
        pixels. extra: a value for every further column, None where unknown.
        """
        if id in self._ids:
            raise OccframeError(
                f"{self.url}: two faces have the id {id!r}", remedy="make the ids of the data set unique"
            )
        if extra.keys() != self._extra.keys():
            raise TypeError(f"columns {sorted(self._extra)} were declared, {sorted(extra)} given")
        self._ids.add(id)
        stored = image if isinstance(image, bytes) else _png(image)
        points = None if landmarks is None else np.asarray(landmarks, np.float32).reshape(10).tolist()
        self._rows.append({"id": id, "identity": identity, "image": stored, "landmarks": points} | extra)
        self._pending += len(stored)
        if len(self._rows) >= _ROWS or self._pending >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._pending = [], 0

    def _columns(self) -> list[str]:
        return ["landmarks.list.element" if name == "landmarks" else name for name in self._schema.names]


def _png(image: np.ndarray) -> bytes:
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    return bytes(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
