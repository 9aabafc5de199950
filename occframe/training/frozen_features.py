"""A recogniser that does not learn, seen through by what does: features of images, with gradients to their pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from occframe.data.fitting import fit_batch
from occframe.images import to_model_input
from occframe.models import LoadedModel
from occframe.precision import ResolvedPrecision, autocast


def shaken(images: Tensor, amount: float, groups: int = 1) -> Tensor:
    """Each picture turned, zoomed and moved a little, what is beyond its border repeated.

    images: [groups * B, 3, H, W]; picture i of every group is moved alike. amount: largest angle in radians, zoom as a
    share of 1, and shift as a share of half the side. Draws from torch's own generator; gradients flow.
    """
    if not amount:
        return images
    count = len(images) // groups
    angle, zoom, right, down = ((torch.rand(4, count, device=images.device) * 2 - 1) * amount).unbind(0)
    cosine, sine = angle.cos() * (1 + zoom), angle.sin() * (1 + zoom)
    matrices = torch.stack([torch.stack([cosine, -sine, right], 1), torch.stack([sine, cosine, down], 1)], 1)
    grid = F.affine_grid(matrices.repeat(groups, 1, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


class FrozenFeatures:
    """Images of any size -> embeddings of ``model``, fed as its own ``ImageSpec`` says."""

    def __init__(self, model: LoadedModel, precision: ResolvedPrecision) -> None:
        self._model = model
        self._precision = precision

    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] RGB float 0..1. Returns [B, D] float32; gradients flow to the images."""
        spec = self._model.image_spec
        inputs = to_model_input(fit_batch(images, spec.height, spec.width), spec)
        with autocast(self._precision, self._model.device):
            output = self._model.backbone(inputs.contiguous(memory_format=torch.channels_last))
        embedding: Tensor = output.embedding
        return embedding.float()
