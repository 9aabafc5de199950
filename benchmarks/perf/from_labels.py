"""Occlusion-pattern labels of a batch of 256 at K = 5: the codebook's batched code, and a loop over the 226 maps.

The loop is what a NumPy implementation of the definition does, one image and one map at a time; it is timed on a few
images, and both figures are per image.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from side_by_side import Comparison, interleave, main

from occframe_from.codebook import PatternCodebook, boxes_from_masks

BLOCKS, HEIGHT, WIDTH, BATCH = 5, 112, 96, 256


def rectangles(count: int) -> torch.Tensor:
    """[count, 4] boxes inside the image."""
    draw = np.random.default_rng(0)
    width, height = draw.integers(10, WIDTH - 10, count), draw.integers(10, HEIGHT - 10, count)
    left, top = (draw.random(count) * (WIDTH - width)).astype(int), (draw.random(count) * (HEIGHT - height)).astype(int)
    return torch.from_numpy(np.stack([left, top, left + width, top + height], 1))


def painted(boxes: torch.Tensor) -> torch.Tensor:
    masks = torch.zeros(len(boxes), 1, HEIGHT, WIDTH)
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
        mask[0, top:bottom, left:right] = 1
    return masks


def loop(maps: np.ndarray, occluded: np.ndarray) -> list[int]:
    """occluded: [n, H, W] bool."""
    labels = []
    for one in occluded:
        ious = [np.logical_and(one, pattern).sum() / max(np.logical_or(one, pattern).sum(), 1) for pattern in maps]
        labels.append(int(np.argmax(ious)) if one.any() else 0)
    return labels


def compare(quick: bool) -> list[Comparison]:
    torch.set_num_threads(1)
    book = PatternCodebook(BLOCKS, HEIGHT, WIDTH)
    boxes = rectangles(BATCH)
    masks = painted(boxes)
    maps = painted(book.boxes)[:, 0].bool().numpy()
    few = masks[: 8 if quick else 32, 0].bool().numpy()
    expected = loop(maps, few)
    for labels in (book.labels_from_boxes(boxes), book.labels_from_masks(masks)):
        assert labels[: len(few)].tolist() == expected, "the two sides do not agree"

    def rate(work: Callable[[], object], images: int, repeats: int) -> float:
        began = time.process_time()  # of one thread: a busy machine does not change it
        for _ in range(repeats):
            work()
        return images * repeats / (time.process_time() - began)

    repeats = 10 if quick else 40

    def theirs() -> float:
        return rate(lambda: loop(maps, few), len(few), 1)

    rounds = 3 if quick else 7
    return [
        interleave(
            "labels from boxes, against a loop over maps",
            lambda: rate(lambda: book.labels_from_boxes(boxes), BATCH, repeats),
            theirs,
            unit="images/s",
            bar=">= 1000",
            rounds=rounds,
        ),
        interleave(
            "labels from pixel masks, against a loop over maps",
            lambda: rate(lambda: book.labels_from_masks(masks), BATCH, repeats),
            theirs,
            unit="images/s",
            bar=">= 100",
            rounds=rounds,
        ),
        interleave(
            "labels from the boxes of pixel masks",
            lambda: rate(lambda: book.labels_from_boxes(boxes_from_masks(masks)), BATCH, repeats),
            theirs,
            unit="images/s",
            bar="-",
            rounds=rounds,
        ),
    ]


if __name__ == "__main__":
    main(compare)
