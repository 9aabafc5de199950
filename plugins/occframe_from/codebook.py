"""Occlusion patterns: every rectangle of whole blocks of a K × K grid, and "none" (EP4099217A4; arXiv 2108.09468, 3.2).

Boxes are (left, top, right, bottom) in pixels, right and bottom exclusive. All labels are batched tensor code on the
device of their input.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from occframe.errors import OccframeError

#: No released model goes beyond 6; at 16 there are 18,497 patterns.
MAX_BLOCKS = 16


def pattern_count(blocks: int) -> int:
    """P(K) = (K(K+1)/2)² + 1."""
    return (blocks * (blocks + 1) // 2) ** 2 + 1


def blocks_of(count: int) -> int:
    """The K whose codebook has ``count`` patterns. Raises OccframeError where there is none."""
    for blocks in range(1, MAX_BLOCKS + 1):
        if pattern_count(blocks) == count:
            return blocks
    known = ", ".join(str(pattern_count(blocks)) for blocks in range(3, 7))
    raise OccframeError(
        f"{count} is no number of occlusion patterns", remedy=f"the codebooks of K = 3, 4, 5 and 6 have {known}"
    )


def grid_lines(length: int, blocks: int) -> list[int]:
    """``linspace(0, length, blocks + 1)`` truncated to integers, free of its rounding."""
    return [length * line // blocks for line in range(blocks + 1)]


class PatternCodebook:
    """All patterns of a grid, in order: 0 is "none"; then start vertices in raster order, for each its end vertices in
    raster order.

    lines_x, lines_y: Tensor [K + 1] int64, pixels. vertices: Tensor [P, 4] int64, lines (x0, y0, x1, y1) of each
    pattern; all 0 for "none". boxes: Tensor [P, 4] int64, the same in pixels.
    """

    def __init__(self, blocks: int, height: int, width: int, *, device: torch.device | str = "cpu") -> None:
        if not 1 <= blocks <= min(MAX_BLOCKS, height, width):
            raise OccframeError(
                f"an image of {height} x {width} pixels cannot be cut in {blocks} x {blocks} blocks",
                remedy=f"choose 1 to {min(MAX_BLOCKS, height, width)} blocks a side; published models use 5",
            )
        self.blocks, self.height, self.width = blocks, height, width
        self.lines_x = torch.tensor(grid_lines(width, blocks), device=device)
        self.lines_y = torch.tensor(grid_lines(height, blocks), device=device)
        starts = range(blocks)
        listed = [
            (x0, y0, x1, y1)
            for y0 in starts
            for x0 in starts
            for y1 in range(y0 + 1, blocks + 1)
            for x1 in range(x0 + 1, blocks + 1)
        ]
        self.vertices = torch.tensor([(0, 0, 0, 0), *listed], device=device)
        x0, y0, x1, y1 = self.vertices.unbind(1)
        self.boxes = torch.stack([self.lines_x[x0], self.lines_y[y0], self.lines_x[x1], self.lines_y[y1]], 1)
        self._areas = _areas(self.boxes).double()
        # Which pair of lines a pattern has along an axis: overlaps need computing once a pair, not once a pattern.
        pairs = [(low, high) for low in starts for high in range(low + 1, blocks + 1)]
        number = {pair: at for at, pair in enumerate(pairs)}
        self._pair_x = torch.tensor([number[x0, x1] for x0, _, x1, _ in listed], device=device)
        self._pair_y = torch.tensor([number[y0, y1] for _, y0, _, y1 in listed], device=device)
        low, high = torch.tensor(pairs, device=device).unbind(1)
        self._spans_x = torch.stack([self.lines_x[low], self.lines_x[high]]).double()
        self._spans_y = torch.stack([self.lines_y[low], self.lines_y[high]]).double()
        # [K², P - 1]: which blocks a pattern covers; [W, K] and [H, K]: which block a column or row is of.
        block = torch.arange(blocks, device=device)
        inside_x = (block[:, None] >= x0[1:]) & (block[:, None] < x1[1:])
        inside_y = (block[:, None] >= y0[1:]) & (block[:, None] < y1[1:])
        self._members = (inside_y[:, None] & inside_x[None]).flatten(0, 1).double()
        self._columns = _memberships(self.lines_x, width)
        self._rows = _memberships(self.lines_y, height)

    def __len__(self) -> int:
        return len(self.vertices)

    def index_of(self, vertices: Tensor) -> Tensor:
        """vertices: Tensor [..., 4] int64, lines (x0, y0, x1, y1), end > start in both axes, or all 0 for "none".

        Returns the patterns' numbers [...] int64, in closed form: patterns before those of this start vertex, then
        those of this start vertex.
        """
        x0, y0, x1, y1 = vertices.unbind(-1)
        k = self.blocks
        sides = k * (k + 1) // 2
        rows_before = (y0 * k - y0 * (y0 - 1) // 2) * sides
        starts_before = (x0 * k - x0 * (x0 - 1) // 2) * (k - y0)
        ends_before = (y1 - y0 - 1) * (k - x0) + (x1 - x0 - 1)
        return torch.where(x1 > x0, 1 + rows_before + starts_before + ends_before, 0)

    def labels_from_boxes(self, boxes: Tensor) -> Tensor:
        """The pattern of highest IoU with each box; ties go to the lowest number, an empty box is "none".

        boxes: Tensor [B, 4], integer or float pixels; what lies outside the image is cut off. Returns [B] int64.
        """
        left, top, right, bottom = boxes.double().unbind(1)
        left, right = left.clamp(0, self.width), right.clamp(0, self.width)
        top, bottom = top.clamp(0, self.height), bottom.clamp(0, self.height)
        area = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
        overlap_x = _overlap(left, right, self._spans_x).index_select(1, self._pair_x)
        overlap_y = _overlap(top, bottom, self._spans_y).index_select(1, self._pair_y)
        return self._best(overlap_x.mul_(overlap_y), area)

    def labels_from_masks(self, masks: Tensor) -> Tensor:
        """The pattern of highest IoU with each set of pixels; ties go to the lowest number, no pixels are "none".

        masks: Tensor [B, 1, H, W] or [B, H, W], bool, or 0 and 1 in any dtype. Returns [B] int64.
        """
        masks = masks.flatten(0, 1) if masks.ndim == 4 else masks
        # Sums of zeros and ones are whole numbers below 2^24: exact in float32, where products are fast.
        with torch.autocast(masks.device.type, enabled=False):
            sums = self._rows.T @ (masks.float() @ self._columns)  # [B, K, K] pixels covered in each block
        covered = sums.flatten(1).double()
        return self._best(covered @ self._members, covered.sum(1))

    def _best(self, intersections: Tensor, area: Tensor) -> Tensor:
        """intersections: [B, P - 1] float64 with each pattern but "none", overwritten. area: [B] float64.

        float64, because quotients of areas that differ do not always differ in float32, and ties must be ties.
        """
        union = (self._areas[1:] + area[:, None]).sub_(intersections)
        best = intersections.div_(union).max(1).indices  # the first where several are equal
        return torch.where(area > 0, best + 1, 0)


def boxes_from_masks(masks: Tensor, threshold: float = 0.5) -> Tensor:
    """Bounding boxes of what is covered: [B, 4] int64, all 0 for nothing.

    masks: Tensor [B, 1, H, W], alpha 0..1. threshold: alpha from which a pixel is covered.
    """
    masks = masks.flatten(0, 1)
    # Largest values first, then the comparison: bytes of bools reduce eight times slower than floats.
    left, right = _extent(masks.amax(1) >= threshold)
    top, bottom = _extent(masks.amax(2) >= threshold)
    return torch.stack([left, top, right, bottom], 1)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes [B, 4] with boxes [B, 4], row by row; 1 where both are empty. Returns [B] float64."""
    first, second = first.double(), second.double()
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = _areas(first) + _areas(second) - shared
    return torch.where(union > 0, shared / union.clamp(min=1e-12), 1.0)


@lru_cache(maxsize=16)
def codebook(blocks: int, height: int, width: int, device: torch.device) -> PatternCodebook:
    """The codebook of a grid, kept: its tensors stay on the device between steps."""
    with torch.inference_mode(False):
        return PatternCodebook(blocks, height, width, device=device)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


def _overlap(low: Tensor, high: Tensor, spans: Tensor) -> Tensor:
    """Lengths shared by [B] intervals and [2, n] spans: [B, n]."""
    return (torch.minimum(high[:, None], spans[1]) - torch.maximum(low[:, None], spans[0])).clamp_(min=0)


def _memberships(lines: Tensor, length: int) -> Tensor:
    pixels = torch.arange(length, device=lines.device)[:, None]
    return ((pixels >= lines[:-1]) & (pixels < lines[1:])).float()


def _extent(covered: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of [B, n]; 0 and 0 where there is none."""
    length = covered.shape[1]
    numbers = torch.arange(length, device=covered.device)
    last = torch.where(covered, numbers + 1, 0).amax(1)
    first = torch.where(covered, numbers, length).amin(1)
    return torch.where(last > 0, first, 0), last
