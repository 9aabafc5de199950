"""Plain structures of tensors, as parameters of occlusions are: mappings, sequences and dataclasses in each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def tensors_in(tree: Any) -> list[Tensor]:
    """Every tensor of it, in a fixed order."""
    found: list[Tensor] = []

    def noted(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(tree, noted)
    return found


def mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure with ``change(tensor)`` in each tensor's place; what is no tensor stays. Dataclasses are made
    anew, by their fields: all of these must be arguments of theirs."""
    import torch

    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        values = [mapped(value, change) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)  # named tuples take them apart
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{item.name: mapped(getattr(tree, item.name), change) for item in fields(tree)})
    return tree
