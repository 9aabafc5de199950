"""The entries of ``weights.toml``, typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """value: a fraction 0..1. source: ``reported`` by the origin or ``measured`` by this project."""

    metric: str
    value: float
    source: Literal["reported", "measured"]
    conditions: str


@dataclass(frozen=True)
class WeightsEntry:
    """One set of weights.

    file: its name in the cache. origin: the page of whoever made them; url: of the very file, "" where none is known.
    licence: SPDX identifier or "none stated"; terms: what else binds a user.
    block: the ``backbone:`` block of a pipeline that loads them, image_spec: what that network must be fed; both empty
    for what is no backbone.
    """

    name: str
    kind: Literal["backbone", "detector"]
    summary: str
    file: str
    bytes: int
    sha256: str
    origin: str
    licence: str
    terms: str
    training_data: str
    url: str = ""
    block: Mapping[str, Any] = field(default_factory=dict)
    image_spec: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()


@cache
def weights() -> Mapping[str, WeightsEntry]:
    """All entries by name."""
    tables = tomllib.loads((files("occframe_registry") / "weights.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def _entry(name: str, table: dict[str, Any]) -> WeightsEntry:
    figures = tuple(Figure(**figure) for figure in table.pop("figures", ()))
    return WeightsEntry(name=name, figures=figures, **table)
