"""What teaches the mask, on predictions made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from occframe.types import BackboneOutput, FaceBatch
from occframe_from.codebook import PatternCodebook
from occframe_from.losses import DistilClean, MaskCoverage, OcclusionBox, OcclusionPattern

SIZE = 20
BOXES = [(0, 0, 0, 0), (4, 8, 12, 16), (0, 0, 20, 12)]


def batch(**changes: Tensor) -> FaceBatch:
    mask = torch.zeros(len(BOXES), 1, SIZE, SIZE)
    for at, (left, top, right, bottom) in enumerate(BOXES):
        mask[at, 0, top:bottom, left:right] = 1
    return FaceBatch(torch.zeros(len(BOXES), 3, SIZE, SIZE), torch.arange(len(BOXES)), **{"mask": mask} | changes)


def output(**extras: Tensor) -> BackboneOutput:
    return BackboneOutput(torch.eye(len(BOXES)), extras=extras)


@pytest.mark.parametrize("match", ["box", "mask"])
def test_pattern_loss_is_cross_entropy_with_the_nearest_pattern(match: str) -> None:
    book = PatternCodebook(5, SIZE, SIZE)
    labels = book.labels_from_boxes(torch.tensor(BOXES))
    logits = torch.randn(3, len(book), generator=torch.Generator().manual_seed(0))
    loss = OcclusionPattern(match=match, threshold=0.5)
    assert torch.equal(loss.labels(logits, batch()), labels)
    torch.testing.assert_close(
        loss(output(pattern_logits=logits), batch()), -logits.log_softmax(1)[torch.arange(3), labels].mean()
    )
    met = torch.nn.functional.one_hot(labels, len(book)).float()
    figures = loss.measure(output(pattern_logits=met), batch())
    assert float(figures["accuracy"]) == 1
    assert float(figures["iou"]) == pytest.approx(1)
    missed = loss.measure(output(pattern_logits=met.roll(1, 0)), batch())
    assert float(missed["accuracy"]) == 0
    assert float(missed["iou"]) < 0.5


def test_labels_from_pixels_differ_from_those_of_their_bounding_box() -> None:
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[0, 0, :, 0:4] = 1
    mask[0, 0, 0:4, :] = 1  # an L: its box is the image
    logits = torch.zeros(1, 226)
    one = FaceBatch(torch.zeros(1, 3, SIZE, SIZE), torch.arange(1), mask=mask)
    book = PatternCodebook(5, SIZE, SIZE)
    by_box, by_mask = (OcclusionPattern(match=match, threshold=0.5).labels(logits, one) for match in ("box", "mask"))
    assert book.boxes[by_box].tolist() == [[0, 0, 20, 20]]
    assert book.boxes[by_mask].tolist() == [[0, 0, 20, 4]]


def test_faint_occlusion_counts_from_the_threshold_on() -> None:
    faint = batch()
    faint = batch(mask=faint.mask * 0.4)
    logits = torch.zeros(3, 226)
    assert OcclusionPattern(match="box", threshold=0.5).labels(logits, faint).tolist() == [0, 0, 0]
    assert OcclusionPattern(match="box", threshold=0.4).labels(logits, faint).count_nonzero() == 2


@pytest.mark.parametrize("distance", ["mse", "smooth-l1"])
def test_box_loss_leaves_clean_images_out(distance: str) -> None:
    loss = OcclusionBox(distance=distance, beta=0.1, match="box", blocks=5, threshold=0.5)
    truth = torch.tensor(BOXES) / SIZE
    off = truth.clone()
    off[0] = 0.7  # the clean image: whatever is said of it costs nothing
    assert float(loss(output(pattern_box=off), batch())) == 0
    off[1, 0] += 0.5
    expected = 0.5**2 / 8 if distance == "mse" else (0.5 - 0.05) / 8
    assert float(loss(output(pattern_box=off), batch())) == pytest.approx(expected)
    figures = loss.measure(output(pattern_box=truth), batch())
    assert float(figures["iou"]) == pytest.approx(1)
    nothing = batch(mask=torch.zeros(3, 1, SIZE, SIZE))
    assert float(loss(output(pattern_box=off), nothing)) == 0
    assert float(loss.measure(output(pattern_box=off), nothing)["iou"]) == 0


def test_box_targets_from_pixels_are_boxes_of_patterns() -> None:
    loss = OcclusionBox(distance="mse", beta=0.1, match="mask", blocks=5, threshold=0.5)
    moved = torch.zeros(1, 1, SIZE, SIZE)
    moved[0, 0, 3:8, 5:13] = 1
    one = FaceBatch(torch.zeros(1, 3, SIZE, SIZE), torch.arange(1), mask=moved)
    assert loss.boxes(one).tolist() == [[4, 4, 12, 8]]


def test_distilling_measures_the_angle_to_the_teacher() -> None:
    same, opposite = torch.eye(3) * 4, -torch.eye(3)
    assert float(DistilClean()(BackboneOutput(same), batch(teacher=torch.eye(3)))) == pytest.approx(0, abs=1e-6)
    assert float(DistilClean()(BackboneOutput(opposite), batch(teacher=torch.eye(3)))) == pytest.approx(2)


@pytest.mark.parametrize("channels", [1, 6])
def test_coverage_wants_the_mask_open_where_the_face_is_visible(channels: int) -> None:
    visible = 1 - torch.nn.functional.avg_pool2d(batch().mask, 4)
    right = visible.expand(-1, channels, -1, -1).clone()
    assert float(MaskCoverage()(output(mask=right), batch())) == pytest.approx(0, abs=1e-12)
    assert float(MaskCoverage()(output(mask=torch.zeros_like(right)), batch())) > 0.5
