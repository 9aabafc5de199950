"""Files from the network, checked before anybody can use them: a download goes on where it stopped, is never longer
than announced, and gets its name only when its SHA-256 is the known one."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from occframe.errors import OccframeError
from occframe.storage import filesystem, local_path

_CHUNK = 1 << 20
_SECONDS = 30.0


def is_offline() -> bool:
    """True where ``OCCFRAME_OFFLINE`` is set to anything but 0: nothing may be asked of the network."""
    return os.environ.get("OCCFRAME_OFFLINE", "0") not in ("", "0")


def fetch_file(
    url: str, target: Path, *, size: int, sha256: str, advance: Callable[[int], None] = lambda amount: None
) -> None:
    """Fetch ``url`` (http, https, a path or any fsspec URL) to ``target``. advance: told the bytes that came.

    What came so far lies in ``target`` with ``.part`` behind its name, and a second call goes on there.
    Raises OccframeError: offline, nothing there, cut off (what came is kept), longer than ``size``, or not the file
    that was meant (what came is deleted).
    """
    if is_offline() and (urlsplit(url).scheme in ("http", "https") or local_path(url) is None):
        raise OccframeError(f"OCCFRAME_OFFLINE is set: {url} is not asked", remedy=f"put the file at {target}")
    part = target.with_name(f"{target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _continue(url, part, size, advance)
        found = part.stat().st_size
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)  # of urllib's own errors: what lies behind them
        kept = f"; {part.stat().st_size:,} bytes are kept" if part.exists() else ""
        raise OccframeError(
            f"cannot fetch {url}: {reason}{kept}", remedy="run the same command again to go on"
        ) from error
    if found < size:
        raise OccframeError(
            f"{url} ended after {found:,} of {size:,} bytes", remedy="run the same command again to go on"
        )
    digest = sha256_of(part)
    if digest != sha256:
        part.unlink()
        raise OccframeError(
            f"{url} is not the file that was meant: its sha256 is {digest}, not {sha256}; it was deleted",
            remedy="name another source with --from",
        )
    part.replace(target)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _continue(url: str, part: Path, size: int, advance: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        advance(have)
        return
    with _opened(url, have) as (source, start):
        advance(start)
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            while data := source.read(_CHUNK):
                if file.tell() + len(data) > size:
                    part.unlink()
                    raise OccframeError(
                        f"{url} is longer than the {size:,} bytes of the file that was meant; what came was deleted",
                        remedy="name another source with --from",
                    )
                file.write(data)
                advance(len(data))


@contextmanager
def _opened(url: str, start: int) -> Iterator[tuple[BinaryIO, int]]:
    """The rest of a file from byte ``start`` on, or from 0 where the server gives no parts; and which of the two."""
    if urlsplit(url).scheme in ("http", "https"):
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            yield cast("BinaryIO", answer), start if answer.status == 206 else 0
        return
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        file.seek(start)
        yield cast("BinaryIO", file), start
