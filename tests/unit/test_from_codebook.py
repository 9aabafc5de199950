"""The pattern codebook against enumeration and IoU written as anybody would, one map at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe_from.codebook import (
    PatternCodebook,
    blocks_of,
    box_iou,
    boxes_from_masks,
    codebook,
    grid_lines,
    pattern_count,
)

SIZES = st.tuples(st.integers(1, 6), st.integers(8, 40), st.integers(8, 40))


def maps_of(blocks: int, height: int, width: int) -> np.ndarray:
    """[P, height, width] bool in the order of the specification, by its definition."""
    lines_x = np.linspace(0, width, blocks + 1).astype(int)
    lines_y = np.linspace(0, height, blocks + 1).astype(int)
    vertices = [(y, x) for y in range(blocks + 1) for x in range(blocks + 1)]
    maps = [np.zeros((height, width), bool)]
    for y0, x0 in vertices:
        for y1, x1 in vertices:
            if y1 > y0 and x1 > x0:
                drawn = np.zeros((height, width), bool)
                drawn[lines_y[y0] : lines_y[y1], lines_x[x0] : lines_x[x1]] = True
                maps.append(drawn)
    return np.stack(maps)


def best_pattern(maps: np.ndarray, occluded: np.ndarray) -> int:
    """Highest IoU, compared as whole fractions; the first of equals; 0 where nothing is occluded."""
    shared = (maps & occluded).sum((1, 2)).tolist()
    union = (maps | occluded).sum((1, 2)).tolist()
    best = 0
    for at in range(1, len(maps)):
        if shared[at] * max(union[best], 1) > shared[best] * union[at]:
            best = at
    return best if occluded.any() else 0


@pytest.mark.parametrize(("blocks", "count"), [(3, 37), (4, 101), (5, 226), (6, 442)])
def test_counts_are_the_published_ones(blocks: int, count: int) -> None:
    assert pattern_count(blocks) == len(PatternCodebook(blocks, 112, 96)) == count
    assert blocks_of(count) == blocks


def test_grid_lines_are_the_specified_ones() -> None:
    assert grid_lines(96, 5) == [0, 19, 38, 57, 76, 96]
    assert grid_lines(112, 5) == [0, 22, 44, 67, 89, 112]
    for length in (96, 112, 128, 160, 224):
        for blocks in range(1, 13):
            assert grid_lines(length, blocks) == np.linspace(0, length, blocks + 1).astype(int).tolist()


@pytest.mark.parametrize("blocks", [1, 3, 4, 5, 6])
def test_enumeration_is_in_raster_order_and_inverts(blocks: int) -> None:
    book = PatternCodebook(blocks, 112, 96)
    maps = maps_of(blocks, 112, 96)
    assert len(book) == len(maps)
    assert torch.equal(boxes_from_masks(torch.from_numpy(maps)[:, None]), book.boxes)
    assert torch.equal(book.index_of(book.vertices), torch.arange(len(book)))
    assert torch.equal(book.labels_from_boxes(book.boxes), torch.arange(len(book)))
    assert torch.equal(book.labels_from_masks(torch.from_numpy(maps)), torch.arange(len(book)))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.data())
def test_labels_from_boxes_are_those_of_brute_force(size: tuple[int, int, int], data: st.DataObject) -> None:
    blocks, height, width = size
    maps = maps_of(blocks, height, width)
    sides = [data.draw(st.tuples(st.integers(-9, n + 9), st.integers(-9, n + 9))) for n in (width, height)]
    (left, right), (top, bottom) = (sorted(side) for side in sides)
    occluded = np.zeros((height, width), bool)
    occluded[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    label = PatternCodebook(blocks, height, width).labels_from_boxes(torch.tensor([[left, top, right, bottom]]))
    assert int(label) == best_pattern(maps, occluded)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]))
def test_labels_from_masks_are_those_of_brute_force(size: tuple[int, int, int], seed: int, share: float) -> None:
    blocks, height, width = size
    occluded = np.random.default_rng(seed).random((3, height, width)) < share
    maps = maps_of(blocks, height, width)
    labels = PatternCodebook(blocks, height, width).labels_from_masks(torch.from_numpy(occluded)[:, None])
    assert labels.tolist() == [best_pattern(maps, one) for one in occluded]


def test_ties_go_to_the_lowest_number() -> None:
    book = PatternCodebook(2, 8, 8)
    # Half of the left and half of the right column of blocks, top row: both, and their union, share 8 pixels;
    # the two single blocks tie at 8/24 and the pair wins with 16/32.
    centred = torch.tensor([[2, 0, 6, 4]])
    assert book.vertices[book.labels_from_boxes(centred)].tolist() == [[0, 0, 2, 1]]
    corners = torch.zeros(1, 8, 8)
    corners[0, 0, 0] = corners[0, 7, 7] = 1  # one pixel in two blocks: IoU 1/17 both
    assert int(book.labels_from_masks(corners)) == 1


def test_nothing_occluded_is_pattern_0() -> None:
    book = PatternCodebook(5, 112, 96)
    assert book.labels_from_masks(torch.zeros(2, 1, 112, 96)).tolist() == [0, 0]
    outside = torch.tensor([[0, 0, 0, 0], [200, 0, 300, 40], [5, 5, 5, 60]])
    assert book.labels_from_boxes(outside).tolist() == [0, 0, 0]


def test_position_and_size_come_back_in_pixels() -> None:
    book = codebook(5, 112, 96, torch.device("cpu"))
    box = torch.tensor([[20, 45, 75, 90]])
    assert book.boxes[book.labels_from_boxes(box)].tolist() == [[19, 44, 76, 89]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 20)] * 8), min_size=1, max_size=6))
def test_box_iou_is_that_of_pixels(rows: list[tuple[int, ...]]) -> None:
    boxes = torch.tensor(rows).view(len(rows), 2, 2, 2).sort(2).values  # [row, first or second, low or high, x or y]
    first, second = boxes.flatten(2).unbind(1)
    drawn = np.zeros((2, len(rows), 20, 20), bool)
    for side, group in enumerate((first, second)):
        for at, (left, top, right, bottom) in enumerate(group.tolist()):
            drawn[side, at, top:bottom, left:right] = True
    shared, union = (drawn[0] & drawn[1]).sum((1, 2)), (drawn[0] | drawn[1]).sum((1, 2))
    expected = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    np.testing.assert_allclose(box_iou(first, second).numpy(), expected)


def test_boxes_of_masks_are_their_bounding_boxes() -> None:
    masks = torch.zeros(3, 1, 10, 12, dtype=torch.bool)
    masks[0, 0, 2, 3] = masks[0, 0, 7, 11] = True
    masks[1] = True
    assert boxes_from_masks(masks).tolist() == [[3, 2, 12, 8], [0, 0, 12, 10], [0, 0, 0, 0]]


def test_impossible_grids_and_counts_are_refused() -> None:
    with pytest.raises(OccframeError, match="4 x 4 pixels cannot be cut in 5 x 5 blocks"):
        PatternCodebook(5, 4, 4)
    with pytest.raises(OccframeError, match="225 is no number of occlusion patterns") as error:
        blocks_of(225)
    assert "37, 101, 226, 442" in str(error.value)
