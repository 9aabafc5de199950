"""Faces in Parquet files: one row an image, its encoded bytes in a column, read by row group and never as a whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from occframe.data.row_groups import PictureCache, open_parts
from occframe.data.stamps import stamp
from occframe.errors import OccframeError


class ParquetFaces:
    """Fulfils ``Dataset``; its blocks are the files' row groups.

    url: a file, or a directory of part files (their rows in the order of the files' names), on any fsspec file system.
    image: column of encoded bytes, or of structs {bytes, path} as Hugging Face writes them.
    identity: column of labels, text or numbers; where None, ``identity``, else ``label`` as Hugging Face has it.
    id: column of unique names; where None, ``id`` or ``file`` if there is one, else file and row number. landmarks:
    column of 10 numbers, (x, y) pixels of the five points; where None, ``landmarks`` if there is one. Every other
    column of numbers or text is an attribute.
    aligned: where None, what the file's metadata says (``FaceParquetWriter`` writes it), else False.
    cache_bytes: how much of the image column is kept in memory.
    """

    def __init__(
        self,
        url: str,
        *,
        image: str = "image",
        identity: str | None = None,
        id: str | None = None,
        landmarks: str | None = None,
        aligned: bool | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.url = url
        self._again = partial(
            ParquetFaces,
            image=image,
            identity=identity,
            id=id,
            landmarks=landmarks,
            aligned=aligned,
            cache_bytes=cache_bytes,
        )
        self._parts = open_parts(url)
        schema = self._parts[0].schema
        self._image = image
        self._identity = identity or ("label" if {"identity", "label"} & set(schema.names) == {"label"} else "identity")
        self._id = id or next((name for name in ("id", "file") if name in schema.names), None)
        self._landmarks = landmarks or ("landmarks" if "landmarks" in schema.names else None)
        for part in self._parts:
            part.require(name for name in (image, self._identity, self._id, self._landmarks) if name)
        self.aligned = (schema.metadata or {}).get(b"occframe.aligned") == b"true" if aligned is None else aligned
        sizes = [size for part in self._parts for size in part.group_sizes()]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        if self._starts[-1] == 0:
            raise OccframeError(f"{url} holds no faces: it has no rows", remedy="check that it is the right file")
        leaves = {part.name: part.picture_leaf(image) for part in self._parts}
        self._largest = max(size for part in self._parts for size in part.picture_bytes(leaves[part.name]))
        if self._largest > cache_bytes:
            raise OccframeError(
                f"{url} has a row group with {self._largest >> 20} MiB of pictures, "
                f"more than the {cache_bytes >> 20} MiB that may be kept in memory",
                remedy="write it anew in row groups of about 1000 rows (row_group_size=1024), or allow more memory",
            )
        groups = [(part, at, leaves[part.name]) for part in self._parts for at in range(len(part.group_sizes()))]
        self._pictures = PictureCache(groups, cache_bytes)

    def __reduce__(self) -> tuple[object, ...]:
        """Another process opens the files itself."""
        return self._again, (self.url,)

    @cached_property
    def ids(self) -> Sequence[str]:
        if self._id is None:
            return [f"{part.name}:{row}" for part in self._parts for row in range(sum(part.group_sizes()))]
        ids = self._texts(self._id)
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise OccframeError(
                f"{self.url}: two rows have the {self._id} {twice!r}", remedy="name a column of unique ids with `id`"
            )
        return ids

    @cached_property
    def subjects(self) -> Sequence[str]:
        return self._texts(self._identity)

    @cached_property
    def landmarks(self) -> np.ndarray | None:
        if self._landmarks is None:
            return None
        column = self._column(self._landmarks)
        rows = np.flatnonzero(column.is_valid())
        known = column.drop_null().combine_chunks()
        lengths = np.asarray(known.value_lengths()) if _is_list(known.type) else np.zeros(len(known))
        if (lengths != 10).any():
            raise OccframeError(
                f"{self.url}: row {rows[np.argmax(lengths != 10)]} of column `{self._landmarks}` "
                "is not a list of 10 numbers",
                remedy="landmarks are x and y of the left eye, right eye, nose, left and right mouth corner",
            )
        points = np.full((len(column), 5, 2), np.nan, np.float32)
        points[rows] = known.flatten().to_numpy(zero_copy_only=False).reshape(-1, 5, 2)
        return points

    @cached_property
    def attributes(self) -> Mapping[str, np.ndarray]:
        taken = {self._image, self._identity, self._id, self._landmarks}
        names = [field.name for field in self._parts[0].schema if field.name not in taken and _is_plain(field.type)]
        return {name: self._column(name).to_numpy() for name in names}

    @property
    def blocks(self) -> Sequence[range]:
        return [range(start, stop) for start, stop in pairwise(self._starts.tolist()) if stop > start]

    @property
    def cached_blocks(self) -> int:
        """How many blocks can be read in any order without reading one twice."""
        return max(1, self._pictures.limit // max(1, self._largest))

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        wanted = np.asarray(rows, np.int64)
        groups = np.searchsorted(self._starts, wanted, side="right") - 1
        inside = (wanted - self._starts[groups]).tolist()
        found: list[bytes | np.ndarray] = [b""] * len(wanted)
        # Group by group: rows from everywhere hold no more than one group beyond the cache.
        order = np.argsort(groups, kind="stable")
        last, pictures = -1, None
        for place, group in zip(order.tolist(), groups[order].tolist(), strict=True):
            if pictures is None or group != last:
                last, pictures = group, self._pictures[group]
            found[place] = pictures[inside[place]]
        return found

    def fingerprint(self) -> str:
        """From each file's name, size and time of change."""
        stamps = [f"{part.name} {stamp(part.info)}" for part in self._parts]
        options = [self._image, self._identity, str(self._id), str(self._landmarks), str(self.aligned)]
        return "parquet-" + hashlib.blake2b("\n".join(stamps + options).encode(), digest_size=16).hexdigest()

    def _column(self, name: str) -> pa.ChunkedArray:
        for part in self._parts:
            part.require([name])
        columns = [part.read_column(name) for part in self._parts]
        for part, column in zip(self._parts, columns, strict=True):
            if column.type != columns[0].type:
                raise OccframeError(
                    f"{self.url}: column `{name}` is {columns[0].type} in {self._parts[0].name}, "
                    f"{column.type} in {part.name}",
                    remedy="write the part files with one schema",
                )
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)

    def _texts(self, name: str) -> list[str]:
        values = self._column(name).to_pylist()
        if None in values:
            raise OccframeError(
                f"{self.url}: row {values.index(None)} has no {name}", remedy="give it one, or remove the row"
            )
        return [value if isinstance(value, str) else str(value) for value in values]


def _is_plain(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))
