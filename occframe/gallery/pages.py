"""Where the vectors of a part lie in its file.

A required FixedSizeBinary column without compression is written as pages of a small header and then nothing but the
values, row after row (Parquet format, "Data Pages", PLAIN encoding). So a vector has an offset in the file: it can be
read straight into place, or mapped, without decoding anything. Anything else in a page and the answer is None: Arrow
reads that part then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_HEADER_BYTES = 256
#: Fields of the Thrift struct PageHeader, and of the DataPageHeader in it (parquet.thrift).
_PAGE_TYPE, _UNCOMPRESSED, _COMPRESSED, _DATA_HEADER = 1, 2, 3, 5
_NUM_VALUES, _ENCODING = 1, 2
_DATA_PAGE, _PLAIN = 0, 0


def find_runs(file: pq.ParquetFile, source: BinaryIO | pa.NativeFile, column: str, width: int) -> np.ndarray | None:
    """Runs of consecutive values of ``width`` bytes: array [runs, 3] int64, each its first row, rows, file offset.

    None where the column is laid out differently.
    """
    at = file.schema_arrow.get_field_index(column)
    described = file.schema.column(at) if len(file.schema) == len(file.schema_arrow) else None
    if described is None or described.physical_type != "FIXED_LEN_BYTE_ARRAY" or described.length != width:
        return None
    if described.max_definition_level or described.max_repetition_level:
        return None
    runs, row = [], 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        chunk = group.column(at)
        if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page or chunk.file_path:
            return None
        position, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
        last = row + group.num_rows
        while row < last:
            source.seek(position)
            page = _read_page(source.read(min(_HEADER_BYTES, max(0, end - position))), width)
            if page is None:
                return None
            header, count = page
            runs.append((row, count, position + header))
            row += count
            position += header + count * width
        if row != last or position > end:
            return None
    return np.array(runs, np.int64).reshape(-1, 3)


def _read_page(raw: bytes, width: int) -> tuple[int, int] | None:
    """The length of a page's header and its number of values; None for anything but one plain page of them."""
    try:
        reader = _Compact(raw)
        page = reader.struct()
    except (IndexError, RecursionError):
        return None
    data = page.get(_DATA_HEADER)
    if page.get(_PAGE_TYPE) != _DATA_PAGE or not isinstance(data, dict) or data.get(_ENCODING) != _PLAIN:
        return None
    count = data.get(_NUM_VALUES)
    if not isinstance(count, int) or count < 1 or {page.get(_COMPRESSED), page.get(_UNCOMPRESSED)} != {count * width}:
        return None
    return reader.at, count


class _Compact:
    """A struct in Thrift's compact protocol. Raises IndexError where it is cut short or of a type pages do not use."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            step, kind = kind >> 4, kind & 15
            number = number + step if step else self._integer()
            fields[number] = self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):  # true, false: the type is the value
            return kind == 1
        if kind in (4, 5, 6):  # i16, i32, i64
            return self._integer()
        if kind == 8:  # binary
            length = self._varint()
            self.at += length
            return None
        if kind == 12:
            return self.struct()
        raise IndexError(kind)

    def _byte(self) -> int:
        self.at += 1
        return self._raw[self.at - 1]

    def _varint(self) -> int:
        return sum((byte & 127) << (7 * place) for place, byte in enumerate(self._varint_bytes()))

    def _varint_bytes(self) -> Iterator[int]:
        while (byte := self._byte()) & 128:
            yield byte
        yield byte

    def _integer(self) -> int:
        raw = self._varint()
        return (raw >> 1) ^ -(raw & 1)
