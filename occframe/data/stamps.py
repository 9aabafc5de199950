"""Whether a file changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from occframe.errors import OccframeError
from occframe.fetching import sha256_of
from occframe.storage import filesystem, local_path

# What file systems call the thing that changes with a file's content, best first.
_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


def stamp(info: Mapping[str, Any]) -> str:
    """Without reading it. info: of one file, as fsspec's ``info`` gives it. Size and checksum, or else size and time of
    change."""
    change = next((info[key] for key in _KEYS if info.get(key) is not None), "")
    return f"{info.get('size')} {change}"


def content_stamp(url: str) -> str:
    """As ``stamp``, but of a local file its content alone: the same weights fetched or copied again are no other file.

    "not there" for what cannot be looked at: that is for its reader to complain about.
    """
    try:
        fs, path = filesystem(url)
        changes = stamp(fs.info(path))
        return _digest(path, changes) if fs.isfile(path) and local_path(url) else changes
    except (OSError, OccframeError):
        return "not there"


@lru_cache(maxsize=1024)
def _digest(path: str, changes: str) -> str:
    """Read once while ``changes`` stays."""
    return sha256_of(Path(path))
