"""Tensors of any type in one piece of memory, and out of it again."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from occframe.data.transfer import packed, unpacked
from occframe.trees import tensors_in

CPU = torch.device("cpu")
TYPES = (torch.uint8, torch.bool, torch.int64, torch.float32, torch.float64, torch.bfloat16)
SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=3)


@given(st.lists(st.tuples(st.sampled_from(TYPES), SHAPES), max_size=8), st.integers(0, 2**31))
def test_what_is_packed_comes_out_bit_for_bit(kinds, seed):
    draw = torch.Generator().manual_seed(seed)
    tensors = [(torch.randn(shape, generator=draw) * 100).to(kind) for kind, shape in kinds]
    tree = {"first": tensors[:3], "rest": {str(at): tensor for at, tensor in enumerate(tensors[3:])}, "name": "n"}
    parcel = packed(tree, pin=False)
    made = unpacked(parcel, CPU)
    assert made.keys() == tree.keys()
    assert made["name"] == "n"
    for tensor, other in zip(tensors, tensors_in(made), strict=True):
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
        assert torch.equal(tensor, other)


def test_views_of_other_tensors_are_packed_by_what_they_show():
    grid = torch.arange(12).view(3, 4)
    tree = (grid.T, grid[:, 1], grid[:1, :1].expand(5, 2), torch.tensor(3.0))
    made = unpacked(packed(tree, pin=False), CPU)
    assert all(torch.equal(one, other) and other.is_contiguous() for one, other in zip(tree, made, strict=True))


def test_all_lies_in_one_piece():
    made = unpacked(packed([torch.ones(3), torch.arange(2), torch.ones(1, dtype=torch.bool)], pin=False), CPU)
    assert len({tensor.untyped_storage().data_ptr() for tensor in made}) == 1
