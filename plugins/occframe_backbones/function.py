"""Any Python function as a recogniser: a rival's package takes part in a benchmark without a plugin of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from occframe import BuildContext, OccframeError
from occframe.types import BackboneOutput, ImageSpec
from occframe_backbones.configs import CallableConfig


class FunctionBackbone(nn.Module):
    """Fulfils ``Backbone`` for inference. It has no state: what the function loads is its own."""

    feature_info = ()

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], name: str, height: int, width: int) -> None:
        super().__init__()
        self._function, self._name = function, name
        # Mean 0 and std 1, so that an input times 255 is the picture again.
        self.image_spec = ImageSpec(height, width, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.embedding_dim = int(self(torch.zeros(2, 3, height, width)).embedding.shape[1])

    def forward(self, images: Tensor) -> BackboneOutput:
        pictures = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        found = np.asarray(self._function(pictures), np.float32)
        if found.ndim != 2 or len(found) != len(pictures):
            raise OccframeError(
                f"{self._name} gave {list(found.shape)} for {len(pictures)} images",
                remedy="it takes [B, H, W, 3] uint8 and gives [B, D]",
            )
        return BackboneOutput(torch.from_numpy(found).to(images.device), [], {})


def build_callable(config: CallableConfig, context: BuildContext) -> FunctionBackbone:
    module, _, path = config.function.partition(":")
    try:
        function: Any = reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise OccframeError(
            f"there is no function {config.function}: {error}", remedy="install its package, or put it on PYTHONPATH"
        ) from error
    return FunctionBackbone(function, config.function, *config.input_size)
