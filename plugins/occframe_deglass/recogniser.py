"""Does a face wear glasses, and do they hide the eyes? A small network over the band of the eyes.

A backbone like any other: its embedding is the three logits, and ``describe`` gives calibrated probabilities by the
names ``glasses`` and ``sunglasses``, which the core's removal asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from occframe.types import BackboneOutput, FeatureInfo, ImageSpec

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_deglass.recogniser_configs import GlassesRecogniserConfig

CLASSES = ("none", "eyeglasses", "sunglasses")

#: Rows of an aligned face that glasses reach, as fractions of its height: from above the brows to the tip of the nose.
_BAND = (0.2, 0.78)


class Separable(nn.Sequential):
    """Depthwise then pointwise convolution, each with batch norm; the input is added where it has the shape."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
        self._adds = inputs == outputs and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = super().forward(maps)
        return maps + changed if self._adds else changed


class GlassesRecogniser(nn.Module):
    """Images [B, 3, size, size] -> logits of ``CLASSES``.

    temperature: what logits are divided by before the softmax, so that a probability means what it says (Guo, Pleiss,
    Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017); a buffer, set after training.
    """

    columns: ClassVar[dict[str, str]] = {"glasses": "float64", "sunglasses": "float64"}
    embedding_dim = len(CLASSES)
    feature_info: Sequence[FeatureInfo] = ()

    def __init__(self, *, size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.image_spec = ImageSpec(height=size, width=size)
        self._rows = slice(round(_BAND[0] * size), round(_BAND[1] * size))
        widths = [width, 2 * width, 3 * width, 4 * width, 6 * width, 6 * width, 8 * width, 8 * width]
        strides = [1, 2, 1, 2, 1, 2, 1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.trunk = nn.Sequential(
            *(Separable(a, b, s) for a, b, s in zip(widths[:-1], widths[1:], strides, strict=True))
        )
        # Both: a lens fills its place, a rim is a few cells of it.
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], len(CLASSES)))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, images: Tensor) -> BackboneOutput:
        maps = self.trunk(self.stem(images[:, :, self._rows]))
        logits = self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))
        return BackboneOutput(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, 3] -> [B, 3], in the order of ``CLASSES``."""
        return (logits.float() / self.temperature).softmax(1)

    def describe(self, output: BackboneOutput) -> dict[str, Tensor]:
        """glasses: probability of either kind. sunglasses: of those that hide the eyes. [B] each."""
        probability = self.probabilities(output.embedding)
        return {"glasses": 1 - probability[:, 0], "sunglasses": probability[:, 2]}


def build(config: GlassesRecogniserConfig, context: BuildContext) -> GlassesRecogniser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return GlassesRecogniser(size=config.size, width=config.width, dropout=config.dropout)
