"""Committing a change to a gallery: its manifest is replaced, if nobody else replaced it first.

A look and a swap, as far as the store has one: a lock on a local disk and in memory, a conditional put on S3. Elsewhere
two commits at the same instant may both pass, so the caller sees to it that such a gallery has one writer at a time.
"""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from occframe.errors import OccframeError
from occframe.gallery.manifest import MANIFEST, Manifest, parse_manifest
from occframe.storage import filesystem, join, local_path, write_bytes

LOCK = "manifest.lock"
#: A manifest names parts of 131,072 rows: this is room for the tombstones of tens of millions.
MOST_BYTES = 512 * 2**20
#: Each attempt lost means that somebody else's commit went through.
ATTEMPTS = 50

_IN_MEMORY = threading.Lock()


class _LostRaceError(Exception):
    """Somebody else published since we looked."""


def read_manifest(url: str) -> Manifest:
    """The manifest of the gallery at ``url``. Raises OccframeError: there is none, or it is not one we can read."""
    found = _look(url)
    if found is None:
        raise OccframeError(
            f"there is no gallery at {url}: no {MANIFEST}",
            remedy="check the path; `occframe gallery create` and an `embed` step make one",
        )
    return parse_manifest(found[0], join(url, MANIFEST))


def create(url: str, manifest: Manifest) -> bool:
    """Publish the first manifest. False where there is one already, which stays as it is."""
    try:
        _swap(url, manifest.dump(), None)
    except _LostRaceError:
        return False
    return True


def commit(url: str, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Publish what ``change`` makes of the manifest that is there, and return it; unchanged, nothing is published.

    ``change`` is called again whenever another writer was faster, so it must look at what it is given. Raises what it
    raises; and OccframeError after many lost races, or where the gallery is gone. Then nothing was changed.
    """
    path = join(url, MANIFEST)
    tried = None
    for attempt in range(ATTEMPTS):
        found = _look(url)
        if found is None:
            raise OccframeError(f"the gallery {url} is gone: no {MANIFEST}", remedy="check the path")
        raw, version = found
        # An answer that was lost on the way makes a client send its put again, which then loses against itself.
        current = parse_manifest(raw, path)
        if raw == tried:
            return current
        following = change(current)
        if following == current:
            return current
        following = following.model_copy(update={"generation": current.generation + 1})
        tried = following.dump()
        try:
            _swap(url, tried, version)
        except _LostRaceError:
            time.sleep(random.random() * min(1.0, 0.01 * 2**attempt))
        else:
            return following
    raise OccframeError(
        f"other writers keep changing the gallery {url}; this change lost {ATTEMPTS} times and was not made",
        remedy="let fewer writers commit at once, or each of them more at a time; then repeat it",
    )


def _look(url: str) -> tuple[bytes, str] | None:
    """The bytes of the manifest and their version, None where there is none."""
    fs, path = filesystem(join(url, MANIFEST))
    try:
        fs.invalidate_cache(path)
        # Asked before the read: an older version than the bytes loses the race, a newer one would hide it.
        info = fs.info(path)
        if (info["size"] or 0) > MOST_BYTES:
            raise OccframeError(
                f"{join(url, MANIFEST)} has {info['size']:,} bytes, no manifest of ours",
                remedy="check its origin",
            )
        raw = bytes(fs.cat_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return raw, str(info["ETag"]) if is_s3(fs) else _digest(raw)


def _swap(url: str, following: bytes, version: str | None) -> None:
    """Put ``following`` in place of ``version`` (None: of nothing). Raises _LostRaceError: something else is there."""
    where = join(url, MANIFEST)
    fs, path = filesystem(where)
    if is_s3(fs):
        _conditional_put(fs, path, following, version)
        return
    with _alone(url):
        found = _look(url)
        if (None if found is None else found[1]) != version:
            raise _LostRaceError
        write_bytes(where, following)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def is_s3(fs: object) -> bool:
    protocol = getattr(fs, "protocol", ())
    return "s3" in ((protocol,) if isinstance(protocol, str) else protocol)


def _conditional_put(fs: object, path: str, data: bytes, version: str | None) -> None:
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    try:
        # One request: a put in several parts is conditional only in some stores.
        fs.pipe_file(path, data, chunksize=MOST_BYTES, **condition)  # type: ignore[attr-defined]
    except FileExistsError as error:
        raise _LostRaceError from error
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        code = answer.get("Error", {}).get("Code")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in ("PreconditionFailed", "ConditionalRequestConflict") or status in (409, 412):
            raise _LostRaceError from error
        if status == 501 or error.errno == errno.ENOSYS:
            raise OccframeError(
                f"the store of {path} has no conditional put, without which two writers could lose each other's rows",
                remedy="use a store that has one, as AWS S3, MinIO and R2 do, or write locally and copy",
            ) from error
        raise OccframeError(f"cannot write s3://{path}: {error}", remedy="check access and try again") from error


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Of all threads and processes that publish in the gallery at ``url`` one is in here; the others wait.

    Remote stores without a conditional put have no lock either: what a killed writer left would bar all later ones.
    """
    folder = local_path(url)
    if folder is None:
        with _IN_MEMORY:
            yield
        return
    with flocked(folder / LOCK):
        yield


@contextmanager
def flocked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """An advisory lock on a local file, which goes with the process. Not to ``wait``: BlockingIOError if taken."""
    import fcntl

    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    with ExitStack() as held:
        try:
            # Never deleted: who waits for a deleted file is not kept out by who locks the next one of that name.
            file = held.enter_context(open(path, "ab"))
            fcntl.flock(file, kind)
        except BlockingIOError:
            raise
        except OSError as error:
            raise OccframeError(
                f"cannot lock {path}: {error.strerror or error}",
                remedy="check that the gallery is still there, its file system writable, not full and able to flock",
            ) from error
        try:
            yield
        finally:
            # Closing is not enough: a process forked meanwhile has the file open too, and would keep the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
