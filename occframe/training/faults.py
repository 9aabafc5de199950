"""What must never get into a checkpoint."""

from __future__ import annotations

from torch import nn


def first_bad_weight(network: nn.Module) -> str | None:
    """The first weight or buffer that is not finite, by name."""
    return next((name for name, value in network.state_dict().items() if not bool(value.isfinite().all())), None)
