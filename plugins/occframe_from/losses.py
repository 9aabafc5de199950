"""What teaches a mask where an occlusion is, and what keeps an adapted recogniser what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occframe_from.codebook import blocks_of, box_iou, boxes_from_masks, codebook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occframe.component import BuildContext
    from occframe.types import BackboneOutput, FaceBatch
    from occframe_from.configs import DistilCleanConfig, MaskCoverageConfig, OcclusionBoxConfig, OcclusionPatternConfig


class OcclusionPattern(nn.Module):
    """Cross-entropy between the predicted occlusion pattern and the image's; the claim's classification error.

    The codebook's K follows from the number of logits. match: see ``OcclusionPatternConfig``.
    """

    needs = frozenset({"mask", "extras.pattern_logits"})
    figures = ("accuracy", "iou")

    def __init__(self, *, match: str, threshold: float) -> None:
        super().__init__()
        self.match = match
        self.threshold = threshold

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        logits = output.extras["pattern_logits"]
        return F.cross_entropy(logits, self.labels(logits, batch))

    def measure(self, output: BackboneOutput, batch: FaceBatch) -> Mapping[str, Tensor]:
        """accuracy: share of patterns met. iou: of the predicted box with the occlusion's, 1 where both are none."""
        logits = output.extras["pattern_logits"]
        found = logits.argmax(1)
        boxes = codebook(blocks_of(logits.shape[1]), *batch.images.shape[2:], logits.device).boxes[found]
        return {
            "accuracy": (found == self.labels(logits, batch)).float().mean(),
            "iou": box_iou(boxes, _boxes(batch, self.threshold)).float().mean(),
        }

    def labels(self, logits: Tensor, batch: FaceBatch) -> Tensor:
        """The pattern of each image, [B] int64."""
        book = codebook(blocks_of(logits.shape[1]), *batch.images.shape[2:], logits.device)
        if self.match == "mask":
            return book.labels_from_masks(_covered(batch, self.threshold))
        return book.labels_from_boxes(_boxes(batch, self.threshold))


class OcclusionBox(nn.Module):
    """Distance between the corners of the predicted and the true occlusion, over the occluded images of a batch."""

    needs = frozenset({"mask", "extras.pattern_box"})
    figures = ("iou",)

    def __init__(self, *, distance: str, beta: float, match: str, blocks: int, threshold: float) -> None:
        super().__init__()
        self.distance = distance
        self.beta = beta
        self.match = match
        self.blocks = blocks
        self.threshold = threshold

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        predicted = output.extras["pattern_box"]
        boxes = self.boxes(batch)
        target = (boxes / _size(batch)).to(predicted.dtype)
        if self.distance == "mse":
            errors = F.mse_loss(predicted, target, reduction="none")
        else:
            errors = F.smooth_l1_loss(predicted, target, reduction="none", beta=self.beta)
        # No selecting of rows: the shape of a selection is a wait for the device.
        occluded = (boxes[:, 2] > boxes[:, 0]).to(predicted.dtype)
        return (errors.mean(1) * occluded).sum() / occluded.sum().clamp(min=1)

    def measure(self, output: BackboneOutput, batch: FaceBatch) -> Mapping[str, Tensor]:
        """iou: of the predicted with the true box, over occluded images; 0 in a batch without any."""
        boxes = self.boxes(batch)
        predicted = output.extras["pattern_box"].double() * _size(batch)
        occluded = (boxes[:, 2] > boxes[:, 0]).double()
        shared = (box_iou(predicted, boxes) * occluded).sum() / occluded.sum().clamp(min=1)
        return {"iou": shared.float()}

    def boxes(self, batch: FaceBatch) -> Tensor:
        """What is to be predicted, in pixels: [B, 4] int64, all 0 for a clean image."""
        if self.match == "box":
            return _boxes(batch, self.threshold)
        covered = _covered(batch, self.threshold)
        book = codebook(self.blocks, *covered.shape[2:], covered.device)
        return book.boxes[book.labels_from_masks(covered)]


class DistilClean(nn.Module):
    """1 - cos between the embedding and the teacher's of the face before occlusion, averaged over the batch."""

    needs = frozenset({"teacher"})

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        assert batch.teacher is not None
        return 1 - F.cosine_similarity(output.embedding, batch.teacher).mean()


class MaskCoverage(nn.Module):
    """Squared distance between a feature mask, averaged over its channels, and the visible share of each of its places.

    Pixels teach the mask, and clean faces pull it open (to 1).
    """

    needs = frozenset({"mask", "extras.mask"})

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        assert batch.mask is not None
        mask = output.extras["mask"].mean(1, keepdim=True)
        visible = 1 - F.adaptive_avg_pool2d(batch.mask, (mask.shape[-2], mask.shape[-1]))
        return F.mse_loss(mask, visible.to(mask.dtype))


def _covered(batch: FaceBatch, threshold: float) -> Tensor:
    assert batch.mask is not None
    return batch.mask >= threshold


def _boxes(batch: FaceBatch, threshold: float) -> Tensor:
    assert batch.mask is not None
    return boxes_from_masks(batch.mask, threshold)


def _size(batch: FaceBatch) -> Tensor:
    height, width = batch.images.shape[2:]
    return torch.tensor([width, height, width, height], dtype=torch.float64, device=batch.images.device)


def build_pattern(config: OcclusionPatternConfig, context: BuildContext) -> OcclusionPattern:
    return OcclusionPattern(match=config.match, threshold=config.threshold)


def build_box(config: OcclusionBoxConfig, context: BuildContext) -> OcclusionBox:
    return OcclusionBox(
        distance=config.distance,
        beta=config.beta,
        match=config.match,
        blocks=config.blocks,
        threshold=config.threshold,
    )


def build_distil(config: DistilCleanConfig, context: BuildContext) -> DistilClean:
    return DistilClean()


def build_coverage(config: MaskCoverageConfig, context: BuildContext) -> MaskCoverage:
    return MaskCoverage()
