"""Files in a gallery's folder that no manifest names: what a kill or a lost race left, and indexes of what is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from occframe.gallery.manifest import Manifest
from occframe.gallery.part_file import WRITERS_LOCK
from occframe.gallery.publishing import LOCK, flocked, read_manifest
from occframe.gallery.snapshot import Snapshot
from occframe.storage import filesystem, join, local_path, read_bytes

#: Indexes lie in folders of their own in here; each has an ``index.json`` whose ``details.snapshot`` is a ``Snapshot``.
INDEXES = "index"
INDEX_HEADER = "index.json"
#: Only names that we give are ever garbage: a gallery may share its folder with anything.
_PART = re.compile(r"part-[A-Za-z0-9-]+\.parquet")
_ASIDE = re.compile(r"\.(part-[A-Za-z0-9-]+\.parquet|manifest\.json)\.[0-9]+\.tmp")
#: Where no lock tells a writer at work from a killed one, a part this young may be about to be published.
GRACE = timedelta(days=1)


def find_garbage(url: str, manifest: Manifest) -> list[str]:
    """Names of files and folders in ``url``, ascending. Those of writers still at work are among them."""
    named = {part.file for part in manifest.parts}
    files = [name for name, _ in _listed(url) if _PART.fullmatch(name) or _ASIDE.fullmatch(name)]
    return sorted(set(files) - named) + [f"{INDEXES}/{name}" for name in stale_indexes(url, manifest)]


def remove_garbage(url: str, grace: timedelta = GRACE) -> tuple[list[str], list[str]]:
    """Remove it. Returns the names of what is gone, and of what stays because a writer may be about to publish it.

    grace: how old a file must be on a remote store; on a local disk a lock tells.
    """
    with _no_writer(url) as alone:
        manifest = read_manifest(url)
        fs, root = filesystem(url)
        ages = dict(_listed(url))
        gone, left = [], []
        for name in find_garbage(url, manifest):
            if name.startswith(INDEXES):
                fs.rm(f"{root.rstrip('/')}/{name}", recursive=True)
                gone.append(name)
            elif alone if alone is not None else datetime.now(UTC) - _aware(ages[name]) >= grace:
                fs.rm_file(f"{root.rstrip('/')}/{name}")
                gone.append(name)
            else:
                left.append(name)
    return gone, left


def stale_indexes(url: str, manifest: Manifest) -> list[str]:
    """Names of the indexes that hold rows of parts that are gone, or whose header says nothing we understand."""
    parts = {part.sha256 for part in manifest.parts}
    fs, path = filesystem(join(url, INDEXES))
    try:
        fs.invalidate_cache(path)
        folders = [entry["name"].rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=True)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    stale = []
    for name in sorted(folders):
        try:
            header = json.loads(read_bytes(join(url, INDEXES, name, INDEX_HEADER)))
            snapshot = Snapshot.model_validate(header["details"]["snapshot"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            stale.append(name)
            continue
        if not {part.sha256 for part in snapshot.parts} <= parts:
            stale.append(name)
    return stale


def _listed(url: str) -> Iterator[tuple[str, datetime | float | None]]:
    """Names of the files in ``url``, and when each was written."""
    fs, root = filesystem(url)
    fs.invalidate_cache(root)
    for entry in fs.ls(root, detail=True):
        if entry["type"] == "file":
            keys = ("LastModified", "mtime", "updated", "created")
            yield entry["name"].rpartition("/")[2], next((entry[key] for key in keys if key in entry), None)


def _aware(moment: datetime | float | None) -> datetime:
    """A store that does not say when it wrote a file is taken to have written it now."""
    if moment is None:
        return datetime.now(UTC)
    if not isinstance(moment, datetime):
        return datetime.fromtimestamp(moment, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def _no_writer(url: str) -> Iterator[bool | None]:
    """True while no other writer has a part open, False where one has; None where nobody can know."""
    folder = local_path(url)
    if folder is None:
        yield None
        return
    with ExitStack() as held:
        try:
            held.enter_context(flocked(folder / WRITERS_LOCK, wait=False))
            held.enter_context(flocked(folder / LOCK))
        except BlockingIOError:
            yield False
        else:
            yield True
