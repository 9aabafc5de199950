"""Facts the framework knows about the world: which weights and test sets exist, where from, on which terms. No
behaviour."""

from __future__ import annotations

from occframe_registry.protocols import ProtocolEntry, ProtocolFile, protocols
from occframe_registry.weights import Figure, WeightsEntry, weights

__all__ = ["Figure", "ProtocolEntry", "ProtocolFile", "WeightsEntry", "protocols", "weights"]
