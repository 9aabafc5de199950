"""For backbones that wrap another one, their trunk: checked, built, and begun with its own weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError

_PREFIX = "trunk."


def build_trunk(block: BackboneBlock, context: BuildContext, wrapper: str) -> Any:
    """The trunk of backbone ``wrapper``. Raises OccframeError: it does not show its maps."""
    if "split" not in context.registry.find("backbone", block.use).caps:
        raise OccframeError(
            f"`{wrapper}` cannot wrap `{block.use}`: it lacks the capability `split`",
            remedy="choose a trunk that has it; `occframe plugins` shows them",
        )
    return context.build(block)


def under_trunk(trunk: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Weights of ``trunk`` alone, as its author may name them, as those of an attribute ``trunk``; None where
    ``state`` is of something that has one."""
    if any(key.startswith(_PREFIX) for key in state):
        return None
    adapt = getattr(trunk, "adapt_state_dict", dict)
    return {f"{_PREFIX}{key}": tensor for key, tensor in adapt(state).items()}
