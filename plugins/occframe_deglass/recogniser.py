"""Does a face wear glasses, and do they hide the eyes? A small network over the band of the eyes.

A backbone like any other: its embedding is the three logits, and ``describe`` gives calibrated probabilities by the
names ``glasses`` and ``sunglasses``, which the core's removal asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from occframe.types import BackboneOutput, FeatureInfo, ImageSpec
from occframe_deglass.calibration import calibrated

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_deglass.recogniser_configs import GlassesRecogniserConfig

CLASSES = ("none", "eyeglasses", "sunglasses")

#: Rows of an aligned face that glasses reach, as fractions of its height: from above the brows to the tip of the nose.
_BAND = (0.2, 0.78)


def _convolve(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), norm, nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolve(channels, channels, 1)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.second(self.first(maps)))


class GlassesRecogniser(nn.Module):
    """Images [B, 3, size, size] -> logits of ``CLASSES``.

    temperature, bias: buffers, set after training, see ``calibration.py``.
    """

    columns: ClassVar[dict[str, str]] = {"glasses": "float64", "sunglasses": "float64"}
    embedding_dim = len(CLASSES)
    feature_info: Sequence[FeatureInfo] = ()

    def __init__(self, *, size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.image_spec = ImageSpec(height=size, width=size)
        self._rows = slice(round(_BAND[0] * size), round(_BAND[1] * size))
        # Whole convolutions: on a CPU they learn twice as fast as depthwise ones of a quarter of their size.
        widths = [width, 2 * width, 4 * width, 6 * width]
        stages = [nn.Sequential(_convolve(before, after, 2), Residual(after)) for before, after in pairwise(widths)]
        self.trunk = nn.Sequential(_convolve(3, width, 2), *stages)
        # Mean and maximum: a lens fills its place, a rim is a few cells of it.
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], len(CLASSES)))
        nn.init.zeros_(self.head[1].weight)  # knows nothing at first: maxima make random answers loud ones
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, images: Tensor) -> BackboneOutput:
        maps = self.trunk(images[:, :, self._rows])
        logits = self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))
        return BackboneOutput(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, 3] -> [B, 3], in the order of ``CLASSES``."""
        return calibrated(logits.float(), float(self.temperature), float(self.bias)).softmax(1)

    def describe(self, output: BackboneOutput) -> dict[str, Tensor]:
        """glasses: probability of either kind. sunglasses: of those that hide the eyes. [B] each."""
        probability = self.probabilities(output.embedding)
        return {"glasses": 1 - probability[:, 0], "sunglasses": probability[:, 2]}


def build(config: GlassesRecogniserConfig, context: BuildContext) -> GlassesRecogniser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return GlassesRecogniser(size=config.size, width=config.width, dropout=config.dropout)
