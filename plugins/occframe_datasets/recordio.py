"""InsightFace's training sets, ``train.rec`` and ``train.idx`` (MXNet RecordIO), read without MXNet.

A record is a magic number, a length, and a header (flag u32, label f32, id u64, id2 u64; ``flag`` more f32 labels)
before the encoded picture. Record 0 may say where the pictures end; what follows them are records without pictures, one
an identity, each with the range of its pictures' keys.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from pyarrow import csv

from occframe import BuildContext, OccframeError
from occframe.data.byte_ranges import RangeFile
from occframe.data.stamps import stamp
from occframe_datasets.configs import RecordIoConfig

_MAGIC = 0xCED7230A
_FRAME, _HEADER = struct.Struct("<II"), struct.Struct("<IfQQ")
#: A record of more bytes than this is no face: it is not read.
MAX_RECORD = 16 << 20
_BLOCK = 1024  # rows read together: near one another in the file
_SCAN = 4096  # headers read at once
_CACHED_BYTES = 1 << 30


class RecordIoFaces:
    """Fulfils ``Dataset``. ids: the keys of the index; identities: the labels as whole numbers.

    url: of the ``.rec`` file, or of the folder that holds ``train.rec``; the index lies beside it.
    """

    landmarks = None

    def __init__(self, url: str, *, aligned: bool = True) -> None:
        self.url = url = url if url.endswith(".rec") else f"{url.rstrip('/')}/train.rec"
        self.aligned = aligned
        self._file = RangeFile(url)
        self._index = RangeFile(url.removesuffix(".rec") + ".idx")
        keys, offsets = self._read_index()
        self._keys, self._offsets = keys, offsets
        # Offsets need not be in order; a record ends where the next one in the file begins.
        placed = np.sort(offsets)
        self._ends = np.append(placed, self._file.size)[np.searchsorted(placed, offsets, side="right")]
        self._rows, self._labels = self._find_pictures()
        if not len(self._rows):
            raise OccframeError(f"{url} holds no pictures", remedy="check that it is the right file")
        self.attributes: Mapping[str, np.ndarray] = {}

    @cached_property
    def ids(self) -> Sequence[str]:
        return [str(key) for key in self._keys[self._rows].tolist()]

    @cached_property
    def subjects(self) -> Sequence[str]:
        return [str(label) for label in self._labels.tolist()]

    @property
    def blocks(self) -> Sequence[range]:
        count = len(self._rows)
        return [range(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]

    @property
    def cached_blocks(self) -> int:
        """How many blocks the system's file cache may be trusted with."""
        return max(2, _CACHED_BYTES * len(self.blocks) // max(1, self._file.size))

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        records = self._rows[np.asarray(rows, np.int64)]
        return [self._picture(record) for record in self._file.read(self._spans(records))]

    def fingerprint(self) -> str:
        """From both files' sizes and times of change."""
        marks = f"{stamp(self._file.info)} {stamp(self._index.info)} {self.aligned}"
        return "recordio-" + hashlib.blake2b(marks.encode(), digest_size=16).hexdigest()

    def _read_index(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and offsets, int64, by key."""
        text = self._index.read([(0, self._index.size)])[0]
        try:
            table = csv.read_csv(
                pa.BufferReader(text),
                csv.ReadOptions(column_names=["key", "offset"]),
                csv.ParseOptions(delimiter="\t"),
                csv.ConvertOptions(column_types={"key": pa.int64(), "offset": pa.int64()}),
            )
        except pa.ArrowInvalid as error:
            raise OccframeError(
                f"{self._index.url} is no RecordIO index: {error}",
                remedy="each line is a key, a tab and an offset; fetch the file again",
            ) from error
        keys, offsets = table["key"].to_numpy(), table["offset"].to_numpy()
        bad = (offsets < 0) | (offsets > self._file.size - _FRAME.size - _HEADER.size) | (offsets % 4 != 0)
        if bad.any():
            line = int(np.argmax(bad))
            raise OccframeError(
                f"{self._index.url}: line {line + 1} names offset {offsets[line]}, where {self.url} has no record",
                remedy="the two files do not belong together, or the .rec is cut short",
            )
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        if (keys[1:] == keys[:-1]).any():
            twice = int(keys[np.argmax(keys[1:] == keys[:-1])])
            raise OccframeError(f"{self._index.url} has the key {twice} twice", remedy="make the index again")
        return keys, offsets

    def _find_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the pictures' records in the index, and their labels, int64."""
        if not len(self._keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        flag, labels = self._labels_of([0])[0]
        if self._keys[0] != 0 or flag != 2:
            everything = np.arange(len(self._keys))
            return everything, self._checked(self._first_labels(everything), everything)
        people = np.flatnonzero((self._keys >= int(labels[0])) & (self._keys < int(labels[1])))
        if not len(people):
            rows = np.flatnonzero((self._keys > 0) & (self._keys < int(labels[0])))
            return rows, self._checked(self._first_labels(rows), rows)
        ranges = np.array([found for _, found in self._labels_of(people)], np.float64)
        if ranges.ndim != 2 or ranges.shape[1] < 2:
            raise OccframeError(
                f"{self.url}: the records from key {int(labels[0])} on name no ranges of pictures",
                remedy="the index belongs to another file, or the .rec is damaged",
            )
        starts, stops = np.searchsorted(self._keys, ranges[:, :2].astype(np.int64).T)
        kept = stops > starts
        starts, stops = starts[kept], stops[kept]
        # One read an identity, not one a picture: the sets have a hundred times as many.
        labels_of_people = self._checked(self._first_labels(starts), starts)
        rows = np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
        return rows, np.repeat(labels_of_people, stops - starts)

    def _first_labels(self, records: np.ndarray) -> np.ndarray:
        return np.array([labels[0] if len(labels) else np.nan for _, labels in self._labels_of(records)])

    def _labels_of(self, records: Sequence[int] | np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(flag, labels) of each record."""
        found = []
        records = np.asarray(records, np.int64)
        size = _FRAME.size + _HEADER.size + 16
        for start in range(0, len(records), _SCAN):
            spans = self._spans(records[start : start + _SCAN])
            heads = self._file.read([(offset, min(size, length)) for offset, length in spans])
            for (offset, _), head in zip(spans, heads, strict=True):
                magic, _ = _FRAME.unpack_from(head)
                if magic != _MAGIC:
                    raise OccframeError(
                        f"{self.url}: there is no record at byte {offset}",
                        remedy="the index belongs to another file, or the .rec is damaged",
                    )
                flag, label, _, _ = _HEADER.unpack_from(head, _FRAME.size)
                more = head[_FRAME.size + _HEADER.size :][: 4 * flag]
                found.append((flag, np.frombuffer(more, "<f4", len(more) // 4) if flag else np.array([label])))
        return found

    def _checked(self, labels: np.ndarray, records: np.ndarray) -> np.ndarray:
        bad = ~np.isfinite(labels) | (labels != np.floor(labels)) | (labels < 0)
        if bad.any():
            at = int(np.argmax(bad))
            raise OccframeError(
                f"{self.url}: the picture with key {self._keys[records[at]]} has the label {labels[at]}, "
                "which is no identity's number",
                remedy="make the file again with whole numbers from 0 as labels",
            )
        return labels.astype(np.int64)

    def _spans(self, records: np.ndarray) -> list[tuple[int, int]]:
        offsets = self._offsets[records]
        sizes = np.minimum(self._ends[records] - offsets, MAX_RECORD)
        return list(zip(offsets.tolist(), sizes.tolist(), strict=True))

    def _picture(self, record: bytes) -> bytes:
        """What follows the header; b"" where the record is damaged, so that the picture is quarantined."""
        content = _payload(record)
        if len(content) < _HEADER.size:
            return b""
        (flag,) = struct.unpack_from("<I", content)
        return content[_HEADER.size + 4 * flag :] if flag < len(content) else b""


def _payload(record: bytes) -> bytes:
    """Frames put together: a record that holds the magic number by chance was cut there."""
    pieces: list[bytes] = []
    place = 0
    while place + _FRAME.size <= len(record):
        magic, length = _FRAME.unpack_from(record, place)
        kind, length = length >> 29, length & ((1 << 29) - 1)
        start = place + _FRAME.size
        if magic != _MAGIC or start + length > len(record) or (kind in (0, 1)) != (not pieces):
            return b""
        pieces.append(record[start : start + length])
        if kind in (0, 3):
            return struct.pack("<I", _MAGIC).join(pieces)
        place = start + -(-length // 4) * 4
    return b""


def build(config: RecordIoConfig, context: BuildContext) -> RecordIoFaces:
    return RecordIoFaces(config.url, aligned=config.aligned)
