"""Columns as other tools write them, in the few types a gallery has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from occframe.errors import OccframeError, first_line


def as_text(column: pa.Array, where: str, name: str) -> pa.Array:
    """Raises OccframeError that begins with ``where``: a value that is missing, or neither text nor a whole number."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise OccframeError(f"{where}: the column `{name}` is {kind}, not text", remedy="name another column")
    if column.null_count:
        row = int(np.flatnonzero(column.is_null())[0])
        raise OccframeError(f"{where}: a row has no {name} (row {row} of its batch)", remedy="give every row one")
    return column.cast(pa.string())


def cast(column: pa.Array, kind: pa.DataType, where: str, name: str) -> pa.Array:
    """Raises OccframeError where a value does not fit ``kind``."""
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise OccframeError(
            f"{where}: the column `{name}` is {column.type}, not {kind}: {first_line(error)}"
        ) from error


def of_types(vectors: np.ndarray) -> np.ndarray:
    """float64 becomes float32; float16 and float32 stay."""
    return vectors.astype(np.float32) if vectors.dtype == np.float64 else vectors
