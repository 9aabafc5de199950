"""WebDataset shards: tar files in which a sample is the run of files that share a name up to its first dot.

Only the headers are read at first; pictures are read from the tar files in place, and nothing is ever unpacked.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np

from occframe import BuildContext, OccframeError
from occframe.data.byte_ranges import RangeFile
from occframe.data.stamps import stamp
from occframe.storage import filesystem, join
from occframe_datasets.configs import WebDatasetConfig

_PICTURES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp")
_LABEL_BYTES = 1 << 16  # a longer label or description of one face is not read
_CACHED_BYTES = 1 << 30


class WebDatasetFaces:
    """Fulfils ``Dataset``; its blocks are the shards.

    url: one ``.tar`` file or a folder of them. label: the extension that names the identity; of ``json`` the value
    under ``key``. ids: the samples' names, which must be unique over all shards. notes: what was left out.
    """

    landmarks = None

    def __init__(self, url: str, *, label: str = "cls", key: str = "identity", aligned: bool = False) -> None:
        self.url = url
        self.aligned = aligned
        self._label, self._key = label, key
        self._left_out: Counter[str] = Counter()
        self._shards = [RangeFile(shard) for shard in _shards(url)]
        self.ids: list[str] = []
        self.subjects: list[str] = []
        self._places: list[tuple[int, int, int]] = []  # shard, offset, size
        starts = [0]
        for number, shard in enumerate(self._shards):
            for name, identity, offset, size in self._samples(shard):
                self.ids.append(name)
                self.subjects.append(identity)
                self._places.append((number, offset, size))
            starts.append(len(self.ids))
        if not self.ids:
            raise OccframeError(
                f"{url} holds no sample with a picture and a .{label} file"
                + (f" ({'; '.join(self.notes)})" if self.notes else ""),
                remedy="name the extension that holds the identity with `label`",
            )
        if len(set(self.ids)) < len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise OccframeError(f"{url}: two samples are called {twice!r}", remedy="give every sample its own name")
        self.blocks: Sequence[range] = [range(start, stop) for start, stop in pairwise(starts) if stop > start]
        self.attributes: Mapping[str, np.ndarray] = {}

    @property
    def notes(self) -> list[str]:
        return [f"left out: {count} {what}" for what, count in self._left_out.items()]

    @property
    def cached_blocks(self) -> int:
        """How many shards the system's file cache may be trusted with."""
        return max(2, _CACHED_BYTES * len(self._shards) // max(1, sum(shard.size for shard in self._shards)))

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        found: list[bytes | np.ndarray] = [b""] * len(rows)
        by_shard: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_shard.setdefault(self._places[row][0], []).append(place)
        for shard, places in by_shard.items():
            ranges = [self._places[rows[place]][1:] for place in places]
            for place, piece in zip(places, self._shards[shard].read(ranges), strict=True):
                found[place] = piece
        return found

    def fingerprint(self) -> str:
        """From the shards' names, sizes and times of change."""
        marks = [f"{shard.url.rpartition('/')[2]} {stamp(shard.info)}" for shard in self._shards]
        options = [self._label, self._key, str(self.aligned)]
        return "webdataset-" + hashlib.blake2b("\n".join(marks + options).encode(), digest_size=16).hexdigest()

    def _samples(self, shard: RangeFile) -> Iterator[tuple[str, str, int, int]]:
        """(name, identity, offset and size of its picture) of one shard."""
        name = ""
        parts: dict[str, tarfile.TarInfo] = {}
        for member in _members(shard):
            stem, _, extension = member.name.rpartition("/")[2].partition(".")
            whole = f"{member.name.rpartition('/')[0]}/{stem}".lstrip("/")
            if whole != name:
                yield from self._sample(shard, name, parts)
                name, parts = whole, {}
            parts[extension.lower()] = member
        yield from self._sample(shard, name, parts)

    def _sample(
        self, shard: RangeFile, name: str, parts: Mapping[str, tarfile.TarInfo]
    ) -> Iterator[tuple[str, str, int, int]]:
        picture = next((parts[kind] for kind in _PICTURES if kind in parts), None)
        if not parts:
            return
        if picture is None:
            self._left_out["samples without a picture"] += 1
        elif (described := parts.get(self._label)) is None or described.size > _LABEL_BYTES:
            self._left_out[f"samples without a .{self._label}"] += 1
        else:
            text = shard.read([(described.offset_data, described.size)])[0]
            yield name, self._identity(shard, name, text), picture.offset_data, picture.size

    def _identity(self, shard: RangeFile, name: str, text: bytes) -> str:
        try:
            if self._label != "json":
                return text.decode().strip()
            value: Any = json.loads(text)[self._key]
            if isinstance(value, str | int):
                return str(value)
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
            pass
        where = f"`{self._key}` of " if self._label == "json" else ""
        raise OccframeError(
            f"{shard.url}: {where}{name}.{self._label} is no text and no whole number",
            remedy="name the file with `label`, and where it is JSON the value with `key`",
        )


def _members(shard: RangeFile) -> Iterator[tarfile.TarInfo]:
    fs, path = filesystem(shard.url)
    try:
        file: BinaryIO
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                if member.isreg() and not member.issparse():
                    yield member
    except (tarfile.TarError, OSError) as error:
        raise OccframeError(
            f"{shard.url} cannot be read as tar: {error}",
            remedy="shards are plain tar files: unpack a compressed one, or fetch it again",
        ) from error


def _shards(url: str) -> list[str]:
    fs, path = filesystem(url)
    if fs.isfile(path):
        return [url]
    if not fs.isdir(path):
        raise OccframeError(f"there is no tar file or folder at {url}", remedy="check the path or URL")
    names = sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(path, detail=False))
    shards = [join(url, name) for name in names if name.endswith(".tar") and not name.startswith((".", "_"))]
    if not shards:
        raise OccframeError(f"the folder {url} holds no file that ends in .tar", remedy="check the path or URL")
    return shards


def build(config: WebDatasetConfig, context: BuildContext) -> WebDatasetFaces:
    return WebDatasetFaces(config.url, label=config.label, key=config.key, aligned=config.aligned)
