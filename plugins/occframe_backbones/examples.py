"""What the examples of `onnx` and `callable` name: a small ONNX file, and a function."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from occframe.component import BackboneBlock
from occframe.exporting import export_onnx
from occframe.models import save_model
from occframe.standalone import parse_block, standalone_context


def onnx_file(where: Path) -> Path:
    """A MobileFaceNet at 32 x 32. Raises OccframeError where the extra `onnx` is missing."""
    context = standalone_context()
    block = parse_block(BackboneBlock, {"use": "mobilefacenet", "input_size": [32, 32], "embedding_dim": 16}, context)
    save_model(str(where / "model"), context.build(block), block)
    export_onnx(str(where / "model"), str(where / "model.onnx"), context)
    return where / "model.onnx"


def mean_colours(images: np.ndarray) -> np.ndarray:
    """A recogniser of sorts: the mean colours of the quarters, [B, 12]."""
    half = images.shape[1] // 2
    quarters = [images[:, y : y + half, x : x + half].mean((1, 2)) for y in (0, half) for x in (0, half)]
    return np.concatenate(quarters, 1) / 255 + 0.01
