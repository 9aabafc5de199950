"""A recogniser that does not learn, seen through by what does: features of images, with gradients to their pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from occframe.data.fitting import fit_batch
from occframe.images import to_model_input
from occframe.models import LoadedModel
from occframe.precision import ResolvedPrecision, autocast


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
