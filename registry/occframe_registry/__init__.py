"""Facts the framework knows about the world: which weights exist, where from, on which terms. No behaviour."""

from __future__ import annotations

from occframe_registry.weights import Figure, WeightsEntry, weights

__all__ = ["Figure", "WeightsEntry", "weights"]
