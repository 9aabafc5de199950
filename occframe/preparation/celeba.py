"""CelebA: aligned pictures in a zip file, with lists of landmarks, identities, attributes and the partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from occframe.errors import OccframeError
from occframe.preparation.archives import read_archive
from occframe.preparation.faces import Picture
from occframe.preparation.sources import SourceFile

_PARTS = {0: "train", 1: "valid", 2: "test"}


def extra_columns(files: Mapping[str, SourceFile]) -> dict[str, type]:
    """The attributes as booleans, in lower case, and ``partition``."""
    with open(files["attributes"].path, encoding="utf-8") as lines:
        _count, names = next(lines, ""), next(lines, "").split()
    return {name.lower(): bool for name in names} | {"partition": str}


def pictures(files: Mapping[str, SourceFile]) -> Iterator[Picture]:
    """Ids are file names, identities the numbers of the list."""
    names, attributes = _table(files["attributes"].path, header=True)
    _, landmarks = _table(files["landmarks"].path, header=True)
    _, people = _table(files["identities"].path)
    _, parts = _table(files["partition"].path)
    columns = [name.lower() for name in names]
    for name, content in read_archive(files["pictures"].path, ".jpg"):
        file = PurePosixPath(name).name
        for role, table in (
            ("identities", people),
            ("landmarks", landmarks),
            ("attributes", attributes),
            ("partition", parts),
        ):
            if file not in table:
                raise OccframeError(f"{files[role].path} has no line for {file}", remedy="fetch both files again")
        known = dict(zip(columns, (bool(value > 0) for value in attributes[file].tolist()), strict=True))
        yield Picture(
            file,
            str(int(people[file][0])),
            content,
            landmarks[file].reshape(5, 2).astype(np.float32),
            known | {"partition": _PARTS[int(parts[file][0])]},
        )


def _table(path: Path, *, header: bool = False) -> tuple[list[str], dict[str, np.ndarray]]:
    """Lines ``file number …`` by file. header: the count of lines, then the names of the columns, come first."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = lines[1].split() if header and len(lines) > 1 else []
    rows: dict[str, np.ndarray] = {}
    for number, line in enumerate(lines[2 if header else 0 :], 3 if header else 1):
        file, *values = line.split() or [""]
        if not file:
            continue
        try:
            rows[file] = np.array([int(value) for value in values], np.int32)
        except ValueError as error:
            raise OccframeError(f"{path}:{number}: {error}", remedy="fetch it again") from error
        if not values or (header and len(values) != len(names)):
            raise OccframeError(
                f"{path}:{number}: {len(values)} values, {len(names) or 1} columns", remedy="fetch it again"
            )
    return names, rows
