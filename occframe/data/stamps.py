"""Whether a file changed, without reading it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What file systems call the thing that changes with a file's content, best first.
_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


def stamp(info: Mapping[str, Any]) -> str:
    """info: of one file, as fsspec's ``info`` gives it. Size and checksum, or else size and time of change."""
    change = next((info[key] for key in _KEYS if info.get(key) is not None), "")
    return f"{info.get('size')} {change}"
