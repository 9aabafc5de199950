"""The errors of adversarial training, as functions of tensors; all give float32 scalars."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["least-squares", "bce"]


def discriminative_loss(real: Tensor, made: Tensor, kind: Kind) -> Tensor:
    """Scores of real and of made images, any shape, unbounded -> how far they are from 1 and 0.

    Least squares as Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017, equation 9.
    """
    return (_distance(real, 1.0, kind) + _distance(made, 0.0, kind)) / 2


def generative_loss(made: Tensor, kind: Kind) -> Tensor:
    """How far the scores of made images are from those of real ones: from 1."""
    return _distance(made, 1.0, kind)


def _distance(scores: Tensor, target: float, kind: Kind) -> Tensor:
    if kind == "least-squares":
        return (scores.float() - target).square().mean()
    return F.binary_cross_entropy_with_logits(scores.float(), torch.full_like(scores, target, dtype=torch.float32))


def feature_error(made: Tensor, reference: Tensor) -> Tensor:
    """1 - cosine, meant over rows. [B, D] each; a row of zeros has cosine 0."""
    return 1 - F.cosine_similarity(made.float(), reference.float(), dim=1, eps=1e-6).mean()


def pixel_error(made: Tensor, reference: Tensor, mask: Tensor | None = None, inside: float = 1.0) -> Tensor:
    """mean |(1 + (inside - 1) m)(made - reference)|; images [B, 3, H, W], mask m [B, 1, H, W] in 0..1.

    inside = 0 is the patent setting's mean |(1 - m)(G(z) - z)|.
    """
    difference = (made.float() - reference.float()).abs()
    if mask is not None and inside != 1.0:
        difference = difference * (1 + (inside - 1) * mask)
    return difference.mean()
