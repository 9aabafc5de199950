"""The entries of ``plugins.toml``, typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class PluginEntry:
    """A plugin that can be installed. name: of its entry point. distribution: what to install; extras: of it, where a
    component needs one. components: what it registers, each ``kind:name``."""

    name: str
    distribution: str
    summary: str
    licence: str
    components: tuple[str, ...]
    extras: tuple[str, ...] = ()


@cache
def plugins() -> Mapping[str, PluginEntry]:
    """All entries by name."""
    tables = tomllib.loads((files("occframe_registry") / "plugins.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def _entry(name: str, table: dict[str, Any]) -> PluginEntry:
    components, extras = tuple(table.pop("components")), tuple(table.pop("extras", ()))
    return PluginEntry(name=name, components=components, extras=extras, **table)
