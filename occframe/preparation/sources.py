"""The files a test set is made of: are they all there, and are they the right ones?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe_registry import ProtocolEntry, ProtocolFile

_CHUNK = 1 << 22


@dataclass(frozen=True)
class SourceFile:
    """path: where it lies. verified: its hash is the known one; False where none is known, or it is another."""

    name: str
    role: str
    path: Path
    bytes: int
    sha256: str
    verified: bool


def find_entry(name: str) -> ProtocolEntry:
    """Raises OccframeError: the registry knows no such test set."""
    from occframe_registry import protocols

    if name not in protocols():
        raise OccframeError(
            f"the registry knows no test set `{name}`", remedy=f"there are: {', '.join(sorted(protocols()))}"
        )
    return protocols()[name]


def find_files(entry: ProtocolEntry, source: Path) -> dict[str, Path]:
    """One file a role. source: the folder they lie in, themselves or in folders of it (as CelebA's Anno, Eval and Img),
    or one of the files, beside the others.

    Raises OccframeError with all that is missing, and how to get it.
    """
    if not source.exists():
        raise OccframeError(f"there is nothing at {source}", remedy=f"fetch {entry.obtain}")
    roles = dict.fromkeys(file.role for file in entry.files)
    if source.is_file() and len(roles) == 1:
        return {entry.files[0].name: source}
    folder = source if source.is_dir() else source.parent
    found: dict[str, Path] = {}
    missing = []
    for role in roles:
        names = [file.name for file in entry.files if file.role == role]
        there = [
            path for name in names for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.is_file()
        ]
        if source in there:
            found[source.name] = source
        elif there:
            found[there[0].name] = there[0]
        else:
            missing.append(" or ".join(names))
    if missing:
        raise OccframeError(
            f"{folder} lacks {', '.join(missing)} of {entry.name}",
            remedy=f"fetch {entry.obtain}; the origin is {entry.origin}",
        )
    return found


def check_files(
    entry: ProtocolEntry, paths: Mapping[str, Path], *, any_version: bool, advance: Callable[[int], None]
) -> dict[str, SourceFile]:
    """By role. any_version: take a file whose hash is not the known one. advance: told the bytes read.

    Raises OccframeError: a file is another one than the registry describes.
    """
    return {
        file.role: _check(file, paths[file.name], any_version=any_version, advance=advance)
        for file in entry.files
        if file.name in paths
    }


def _check(file: ProtocolFile, path: Path, *, any_version: bool, advance: Callable[[int], None]) -> SourceFile:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
            if file.md5:
                md5.update(chunk)
            advance(len(chunk))
    known, found = (file.sha256, sha256.hexdigest()) if file.sha256 else (file.md5, md5.hexdigest())
    if known and known != found and not any_version:
        kind = "sha256" if file.sha256 else "md5"
        raise OccframeError(
            f"{path} is not the {file.name} that others know: its {kind} is {found}, not {known} ({file.source})",
            remedy="fetch it again; if you mean this very file, add --any-version, and its hash is noted instead",
        )
    verified = bool(known) and known == found
    return SourceFile(file.name, file.role, path, path.stat().st_size, sha256.hexdigest(), verified)
