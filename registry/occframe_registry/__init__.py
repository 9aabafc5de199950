"""Facts the framework knows: weights, test sets and plugins, where from, on which terms. No behaviour."""

from __future__ import annotations

from occframe_registry.plugins import PluginEntry, plugins
from occframe_registry.protocols import ProtocolEntry, ProtocolFile, protocols
from occframe_registry.weights import Figure, WeightsEntry, weights

__all__ = [
    "Figure",
    "PluginEntry",
    "ProtocolEntry",
    "ProtocolFile",
    "WeightsEntry",
    "plugins",
    "protocols",
    "weights",
]
