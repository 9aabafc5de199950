"""Parameters of any generator, whatever plain structure they have: some of their rows, or their rows among others."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from occframe.trees import mapped


def take(tree: Any, rows: Tensor) -> Any:
    """The given rows (int64) of every tensor."""
    return mapped(tree, lambda leaf: leaf[rows.to(leaf.device)])


def spread(tree: Any, rows: Tensor, count: int) -> Any:
    """Tensors of ``count`` rows: the given ones from ``tree``, zeros elsewhere."""

    def among(leaf: Tensor) -> Tensor:
        wide = leaf.new_zeros(count, *leaf.shape[1:])
        wide[rows.to(leaf.device)] = leaf
        return wide

    return mapped(tree, among)
