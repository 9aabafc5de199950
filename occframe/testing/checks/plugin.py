"""What an entry point promises. These checks are given its ``PluginRecord``."""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from typing import TYPE_CHECKING, Any

from occframe.plugins import ENTRY_POINT_GROUP, HOOK_KINDS
from occframe.testing.check import Inapplicable, check, require

if TYPE_CHECKING:
    from occframe.plugins import PluginRecord


@check()
def loads(record: PluginRecord) -> None:
    """The plugin imports, was written for this plugin API, and its hooks register."""
    require(record.status == "loaded", f"{record.label} is {record.status}: {record.error}")


@check()
def registers_components(record: PluginRecord) -> None:
    """At least one component is registered."""
    if record.status != "loaded":
        raise Inapplicable("the plugin did not load")
    require(record.components, f"{record.label} registers nothing: are its hooks called occframe_register_…?")


@check()
def hook_signatures(record: PluginRecord) -> None:
    """Every hook takes ``register`` and nothing else; pluggy would call one that takes nothing, to no effect."""
    module = _module(record)
    for name in HOOK_KINDS:
        hook = getattr(module, name, None)
        if hook is not None:
            taken = list(inspect.signature(hook).parameters)
            require(taken == ["register"], f"{name} takes ({', '.join(taken)}), not (register)")


def _module(record: PluginRecord) -> Any:
    if record.status != "loaded":
        raise Inapplicable("the plugin did not load")
    if record.distribution.startswith("inline "):
        return sys.modules[record.name]
    points = importlib.metadata.distribution(record.distribution).entry_points
    return next(point for point in points if (point.group, point.name) == (ENTRY_POINT_GROUP, record.name)).load()
