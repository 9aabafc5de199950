"""Plain structures of tensors: every tensor found and changed, everything else left as it is."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from occframe.trees import mapped, tensors_in


@dataclass(frozen=True)
class Drawn:
    size: torch.Tensor
    name: str
    within: Any = None


class Pair(NamedTuple):
    left: torch.Tensor
    right: int


def tree() -> Any:
    return {
        "a": torch.arange(3),
        "b": [torch.ones(2), (torch.zeros(1), "text")],
        "c": Drawn(torch.full((2,), 5), "name", OrderedDict(d=Pair(torch.tensor([7]), 8))),
        "none": None,
        "class": Drawn,
    }


def test_every_tensor_is_found_in_the_order_of_the_structure():
    assert [tensor.tolist() for tensor in tensors_in(tree())] == [[0, 1, 2], [1, 1], [0], [5, 5], [7]]
    assert tensors_in({"n": 3}) == []


def test_looking_for_tensors_makes_nothing_of_others():
    @dataclass
    class Checked:
        size: torch.Tensor

        def __post_init__(self) -> None:
            assert self.size.ndim == 1

    assert [tensor.tolist() for tensor in tensors_in([Checked(torch.arange(2))])] == [[0, 1]]


def test_the_structure_stays():
    made = mapped(tree(), lambda tensor: tensor.tolist())
    assert made == {
        "a": [0, 1, 2],
        "b": [[1, 1], ([0], "text")],
        "c": Drawn([5, 5], "name", {"d": Pair([7], 8)}),
        "none": None,
        "class": Drawn,
    }
    assert isinstance(made["c"].within["d"], Pair)
