"""A data set by its path alone: which component reads what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from occframe.component import BuildContext, DatasetBlock
from occframe.errors import OccframeError
from occframe.standalone import parse_block
from occframe.storage import filesystem

if TYPE_CHECKING:
    from occframe.plugins import PluginRegistry
    from occframe.types import Dataset

#: A data set component with the capability ``reads:PATTERN`` takes files of such names, or folders that hold one;
#: ``reads:*/`` takes folders of folders.
READS = "reads:"


def open_source(url: str, context: BuildContext, *, use: str | None = None, **options: Any) -> Dataset:
    """The data set at ``url``, read by component ``use``, or else by the one that says it reads such files.

    Raises OccframeError where nothing is there, or no component or several say so; ConfigError for wrong options.
    """
    written: Mapping[str, Any] = {"use": use or recognise(url, context.registry), "url": url} | options
    return context.build(parse_block(DatasetBlock, written, context))  # type: ignore[no-any-return]


def recognise(url: str, registry: PluginRegistry) -> str:
    """Name of the data set component that reads what lies at ``url``, by file names alone."""
    fs, path = filesystem(url)
    if not fs.exists(path):
        raise OccframeError(f"there is nothing at {url}", remedy="check the path or URL")
    names = [path.rstrip("/")] if fs.isfile(path) else _inside(fs, path)
    patterns = {
        cap.removeprefix(READS): item.qualified_name if item.owner != "occframe" else item.name
        for item in registry.components("dataset")
        for cap in sorted(item.caps)
        if cap.startswith(READS)
    }
    found = {use: pattern for pattern, use in patterns.items() if any(_fits(name, pattern) for name in names)}
    # Folders of folders may hold anything; a file's name says more.
    found = {use: pattern for use, pattern in found.items() if not pattern.endswith("/")} or found
    if len(found) != 1:
        known = ", ".join(f"{use} ({pattern})" for pattern, use in sorted(patterns.items()))
        what = f"looks like {' and '.join(found)} at once" if found else "is like nothing a data set plugin reads"
        raise OccframeError(f"{url} {what}", remedy=f"name the component with --use; known by their names: {known}")
    return next(iter(found))


def _inside(fs: Any, path: str) -> list[str]:
    entries = fs.ls(path, detail=True)
    return [entry["name"].rstrip("/") + ("/" if entry["type"] == "directory" else "") for entry in entries]


def _fits(name: str, pattern: str) -> bool:
    tail = "/" if name.endswith("/") else ""
    return fnmatchcase(name.rstrip("/").rpartition("/")[2] + tail, pattern)
