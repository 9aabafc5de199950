"""Pictures in folders: one sub-folder an identity."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from occframe import BuildContext, OccframeError
from occframe.data.stamps import stamp
from occframe.storage import filesystem, local_path
from occframe_datasets.configs import FolderConfig

_PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".pbm")


class FolderFaces:
    """Fulfils ``Dataset``: identities are the names of the sub-folders, ids ``folder/file``, in order of both.

    Pictures lie directly in their sub-folder. notes: what was left out, for people to read.
    """

    landmarks = None

    def __init__(self, url: str, *, aligned: bool = False, follow_links: bool = False) -> None:
        self.url = url
        self.aligned = aligned
        self._fs, self._root = filesystem(url)
        self._is_local = local_path(url) is not None
        self._follow_links = follow_links
        self._left_out: Counter[str] = Counter()
        found = sorted(self._find())
        if not found:
            raise OccframeError(
                f"{url} holds no pictures in sub-folders" + (f" ({'; '.join(self.notes)})" if self.notes else ""),
                remedy="give every identity a sub-folder with its pictures: PERSON/1.jpg, PERSON/2.jpg …",
            )
        self.subjects = [identity for identity, _, _, _ in found]
        self.ids = [f"{identity}/{name}" for identity, name, _, _ in found]
        self._paths = [path for _, _, path, _ in found]
        self._stamps = [mark for _, _, _, mark in found]
        self.attributes: Mapping[str, np.ndarray] = {}
        self.blocks = [range(len(found))]

    @property
    def notes(self) -> list[str]:
        return [f"left out: {count} {what}" for what, count in self._left_out.items()]

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        paths = [self._paths[row] for row in rows]
        try:
            if self._is_local:
                return [Path(path).read_bytes() for path in paths]
            # Not ``cat``, which takes brackets in names for patterns; object stores answer many requests at once.
            return [bytes(content) for content in self._fs.cat_ranges(paths, None, None, on_error="raise")]
        except OSError as error:
            raise OccframeError(
                f"a picture of {self.url} cannot be read: {error}",
                remedy="it was there when the run began; restore it or make it readable, then run again",
            ) from error

    def fingerprint(self) -> str:
        """From each picture's name, size and time of change."""
        lines = [f"{name} {mark}" for name, mark in zip(self.ids, self._stamps, strict=True)]
        digest = hashlib.blake2b("\n".join([str(self.aligned), *lines]).encode(), digest_size=16)
        return "folder-" + digest.hexdigest()

    def _find(self) -> Iterator[tuple[str, str, str, str]]:
        """(identity, file name, path, stamp) of every picture."""
        for folder in self._list(self._root):
            if folder["type"] != "directory":
                if not _is_hidden(folder):
                    self._left_out["files beside the sub-folders"] += 1
            elif not _is_hidden(folder) and self._may_follow(folder, "links to folders"):
                yield from self._pictures_in(folder)

    def _pictures_in(self, folder: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
        for file in self._list(folder["name"]):
            name = _name(file)
            if _is_hidden(file):
                continue
            if file["type"] != "file":
                self._left_out["folders within sub-folders" if file["type"] == "directory" else "broken links"] += 1
            elif not name.lower().endswith(_PICTURES):
                self._left_out["files that are no pictures by their names"] += 1
            elif not _is_text(file["name"]):
                self._left_out["files whose names are not UTF-8"] += 1
            elif self._may_follow(file, "links to files elsewhere"):
                yield _name(folder), name, file["name"], stamp(file)

    def _list(self, path: str) -> list[Mapping[str, Any]]:
        try:
            if self._is_local:
                return [_local_entry(entry) for entry in os.scandir(path)]
            return [entry for entry in self._fs.ls(path, detail=True) if entry["name"].rstrip("/") != path.rstrip("/")]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise OccframeError(f"there is no folder at {self.url}", remedy="check the path or URL") from error
        except PermissionError as error:
            raise OccframeError(f"{path} may not be read: {error.strerror}", remedy="make it readable") from error

    def _may_follow(self, entry: Mapping[str, Any], what: str) -> bool:
        """Links to a folder of this data set would give one face two identities; others may lead anywhere."""
        if not entry.get("islink"):
            return True
        inside = Path(entry["name"]).resolve().is_relative_to(Path(self._root).resolve())
        allowed = entry["type"] == "file" if inside else self._follow_links
        if not allowed:
            self._left_out[what] += 1
        return allowed


def _local_entry(entry: os.DirEntry[str]) -> dict[str, Any]:
    """As fsspec's ``ls`` gives it, but with the type of what a link leads to."""
    kind = "directory" if entry.is_dir() else "file" if entry.is_file() else "other"
    facts = entry.stat() if kind != "other" else None
    return {
        "name": entry.path,
        "type": kind,
        "islink": entry.is_symlink(),
        "size": facts and facts.st_size,
        "mtime": facts and facts.st_mtime_ns,
    }


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _is_text(name: str) -> bool:
    """Names of other encodings become text that no report, table or log can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hidden(entry: Mapping[str, Any]) -> bool:
    return _name(entry).startswith(".")


def build(config: FolderConfig, context: BuildContext) -> FolderFaces:
    return FolderFaces(config.url, aligned=config.aligned, follow_links=config.follow_links)
