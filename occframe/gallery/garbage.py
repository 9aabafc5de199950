"""Files in a gallery's folder that no manifest names: what a kill or a lost race left, and indexes of what is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from occframe.gallery.manifest import Manifest
from occframe.gallery.part_file import WRITERS_LOCK
from occframe.gallery.publishing import LOCK, flocked, read_manifest
from occframe.gallery.snapshot import Snapshot
from occframe.gallery.uploads import Upload, find_uploads
from occframe.storage import filesystem, join, local_path, read_bytes

#: Indexes lie in folders of their own in here. Each has a header, whose ``details.snapshot`` is a ``Snapshot`` and
#: whose ``folder`` is the one of its builds that counts.
INDEXES = "index"
INDEX_HEADER = "index.json"
#: Only names that we give are ever garbage: a gallery may share its folder with anything.
_PART = re.compile(r"part-[A-Za-z0-9-]+\.parquet")
_ASIDE = re.compile(r"\.(part-[A-Za-z0-9-]+\.parquet|manifest\.json)\.[0-9]+\.tmp")
_BUILD = re.compile(r"build-[0-9a-f]+")
#: Where no lock tells a writer at work from a killed one, what is this young may be about to be published.
GRACE = timedelta(days=1)


@dataclass(frozen=True)
class Garbage:
    """name: of a file or folder in the gallery's. unfinished: somebody may be at work on it and publish it yet.

    upload: where it is no file yet, but the beginning of one.
    """

    name: str
    unfinished: bool
    upload: Upload | None = None


def find_garbage(url: str, manifest: Manifest) -> list[Garbage]:
    """By name. What writers are at work on is among it."""
    named = {part.file for part in manifest.parts}
    files = sorted(entry for entry in _listed(url) if _PART.fullmatch(entry) or _ASIDE.fullmatch(entry))
    found = [Garbage(name, unfinished=True) for name in files if name not in named]
    found += [Garbage(upload.name, True, upload) for upload in find_uploads(url) if _PART.fullmatch(upload.name)]
    hashes = {part.sha256 for part in manifest.parts}
    for index in sorted(_listed(join(url, INDEXES))):
        found += _of_index(join(url, INDEXES, index), f"{INDEXES}/{index}", hashes)
    return found


def _of_index(url: str, name: str, parts: set[str]) -> list[Garbage]:
    try:
        header = json.loads(read_bytes(join(url, INDEX_HEADER)))
        snapshot = Snapshot.model_validate(header["details"]["snapshot"])
        published = header.get("folder")
    except (FileNotFoundError, NotADirectoryError):
        return [Garbage(name, unfinished=True)]
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return [Garbage(name, unfinished=False)]
    if not {part.sha256 for part in snapshot.parts} <= parts:
        return [Garbage(name, unfinished=False)]
    builds = sorted(entry for entry in _listed(url) if _BUILD.fullmatch(entry) and entry != published)
    return [Garbage(f"{name}/{build}", unfinished=True) for build in builds]


def remove_garbage(url: str, grace: timedelta = GRACE) -> tuple[list[str], list[str]]:
    """Remove it. Returns the names of what is gone, and of what stays because a writer may be about to publish it.

    grace: how old that must be on a remote store; on a local disk a lock tells.
    """
    with _no_writer(url) as alone:
        fs, root = filesystem(url)
        gone, left = [], []
        for found in find_garbage(url, read_manifest(url)):
            path = f"{root.rstrip('/')}/{found.name}"
            age = _since(found.upload.began) if found.upload else _age(fs, path)
            if not found.unfinished or (age >= grace if alone is None else alone):
                if found.upload:
                    found.upload.abort(fs)
                else:
                    fs.rm(path, recursive=True)
                gone.append(found.name)
            else:
                left.append(found.name)
    return gone, left


def _listed(url: str) -> list[str]:
    """Names of the files and folders in ``url``."""
    fs, root = filesystem(url)
    fs.invalidate_cache(root)
    try:
        return [name.rstrip("/").rpartition("/")[2] for name in fs.ls(root, detail=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _age(fs: Any, path: str) -> timedelta:
    """Since something was last written to a file, or to any in a folder; 0 where the store does not say."""
    entries = fs.find(path, detail=True).values()
    moments = [entry.get("LastModified") or entry.get("updated") or entry.get("created") for entry in entries]
    if not all(isinstance(moment, datetime) for moment in moments):
        return timedelta(0)
    return min(map(_since, moments), default=timedelta(0))


def _since(moment: datetime) -> timedelta:
    return datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


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
