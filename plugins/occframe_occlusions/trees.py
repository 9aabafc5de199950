"""Parameters of any generator, whatever plain structure they have: some of their rows, or their rows among others."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def take(tree: Any, rows: Tensor) -> Any:
    """The given rows (int64) of every tensor."""
    return _mapped(tree, lambda leaf: leaf[rows.to(leaf.device)])


def spread(tree: Any, rows: Tensor, count: int) -> Any:
    """Tensors of ``count`` rows: the given ones from ``tree``, zeros elsewhere."""

    def among(leaf: Tensor) -> Tensor:
        wide = leaf.new_zeros(count, *leaf.shape[1:])
        wide[rows.to(leaf.device)] = leaf
        return wide

    return _mapped(tree, among)


def _mapped(tree: Any, change: Any) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(value, change) for value in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{item.name: _mapped(getattr(tree, item.name), change) for item in fields(tree)})
    return tree
