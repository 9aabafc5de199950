"""The entries of ``protocols.toml``, typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal


@dataclass(frozen=True)
class ProtocolFile:
    """A file that a user fetches. role: what it is for; of two files in one role, one is enough. sha256, md5: in
    hexadecimal, "" where not known; source: who says so."""

    name: str
    role: Literal["pictures", "pairs", "identities", "landmarks", "attributes", "partition"]
    sha256: str = ""
    md5: str = ""
    source: str = ""


@dataclass(frozen=True)
class ProtocolEntry:
    """A public test set. builder: the way ``occframe data prepare`` takes. licence: SPDX identifier, the name of an
    agreement or "none stated"; terms: what else binds a user. obtain: how to get the files. pictures, people: as the
    authors count them, 0 where that is not known here. pairs, folds: 0 where the set has none of its own."""

    name: str
    summary: str
    builder: Literal["lfw", "celeba", "insightface-bin"]
    task: str
    origin: str
    obtain: str
    licence: str
    terms: str
    pairs: int
    folds: int
    files: tuple[ProtocolFile, ...]
    pictures: int = 0
    people: int = 0


@cache
def protocols() -> Mapping[str, ProtocolEntry]:
    """All entries by name."""
    tables = tomllib.loads((files("occframe_registry") / "protocols.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def _entry(name: str, table: dict[str, Any]) -> ProtocolEntry:
    listed = tuple(ProtocolFile(**file) for file in table.pop("files"))
    return ProtocolEntry(name=name, files=listed, **table)
