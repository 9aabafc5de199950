"""Does a face wear glasses, and do they hide the eyes? A small network over the band of the eyes, or what a face
recogniser's trunk sees there.

A backbone like any other: its embedding is the three logits, and ``describe`` gives calibrated probabilities by the
names ``glasses`` and ``sunglasses``, which the core's removal asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.errors import OccframeError
from occframe.trunks import build_trunk, under_trunk
from occframe.types import BackboneOutput, FeatureInfo, ImageSpec
from occframe_deglass.calibration import calibrated

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_deglass.recogniser_configs import GlassesRecogniserConfig

CLASSES = ("none", "eyeglasses", "sunglasses")

#: Rows of an aligned face that glasses reach, as fractions of its height: from above the brows to the tip of the nose.
_BAND = (0.2, 0.78)
#: Rows and columns that a trunk's map is averaged over within the band: temples, lenses, bridge; brows, eyes, nose.
_GRID = (3, 4)
#: Of the map that is read where none is named: a rim is some cells of it, and a lens no more than four by four.
_STRIDE = 8


def _band(height: int) -> slice:
    return slice(round(_BAND[0] * height), round(_BAND[1] * height))


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


class EyeBand(nn.Sequential):
    """A trunk of its own, of one map: residual convolutions over the band of the eyes."""

    def __init__(self, *, size: int, width: int) -> None:
        # Whole convolutions: on a CPU they learn twice as fast as depthwise ones of a quarter of their size.
        widths = [width, 2 * width, 4 * width, 6 * width]
        stages = [nn.Sequential(_convolve(before, after, 2), Residual(after)) for before, after in pairwise(widths)]
        super().__init__(_convolve(3, width, 2), *stages)
        self.image_spec = ImageSpec(height=size, width=size)
        self.channels = widths[-1]

    def forward_features(self, images: Tensor) -> list[Tensor]:
        return [self(images[:, :, _band(images.shape[2])])]


class GlassesRecogniser(nn.Module):
    """Images [B, 3, H, W] -> logits of ``CLASSES``.

    trunk: an ``EyeBand``, or a backbone with capability ``split``, of which ``maps`` (numbers in its ``feature_info``)
    are read. temperature, bias: buffers, set after training, see ``calibration.py``.
    """

    columns: ClassVar[dict[str, str]] = {"glasses": "float64", "sunglasses": "float64"}
    embedding_dim = len(CLASSES)
    temperature: Tensor
    bias: Tensor
    feature_info: Sequence[FeatureInfo] = ()

    def __init__(self, trunk: Any, *, maps: Sequence[int] = (), dropout: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.image_spec: ImageSpec = trunk.image_spec
        self._maps = tuple(maps)
        if isinstance(trunk, EyeBand):
            self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * trunk.channels, len(CLASSES)))
        else:
            channels = sum(trunk.feature_info[at].channels for at in maps)
            features = channels * (2 + _GRID[0] * _GRID[1])
            # The channels of a trunk that is there already are of very different sizes.
            norm = nn.BatchNorm1d(features, affine=False)
            self.head = nn.Sequential(norm, nn.Dropout(dropout), nn.Linear(features, len(CLASSES)))
        # Knows nothing at first: maxima make random answers loud ones.
        nn.init.zeros_(cast(nn.Linear, self.head[-1]).weight)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, images: Tensor) -> BackboneOutput:
        maps = self.trunk.forward_features(images)
        with torch.autocast(images.device.type, enabled=False):
            return BackboneOutput(self.head(self._summary(maps)))

    def _summary(self, maps: Sequence[Tensor]) -> Tensor:
        # Mean and maximum: a lens fills its place, a rim is a few cells of it.
        if not self._maps:
            seen = maps[0].float()
            return torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        found = []
        for at in self._maps:
            seen = maps[at][:, :, _band(maps[at].shape[2])].float()
            found += [seen.mean((2, 3)), seen.amax((2, 3)), F.adaptive_avg_pool2d(seen, _GRID).flatten(1)]
        return torch.cat(found, 1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, 3] -> [B, 3], in the order of ``CLASSES``."""
        return calibrated(logits.float(), float(self.temperature), float(self.bias)).softmax(1)

    def describe(self, output: BackboneOutput) -> dict[str, Tensor]:
        """glasses: probability of either kind. sunglasses: of those that hide the eyes. [B] each."""
        probability = self.probabilities(output.embedding)
        return {"glasses": 1 - probability[:, 0], "sunglasses": probability[:, 2]}

    def begin_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights to begin with, given those of an earlier glasses recogniser, of the trunk, or of what wraps one:
        in the last two cases the head stays as it is."""
        if "temperature" in state:
            return dict(state)
        begun = under_trunk(self.trunk, state)
        if begun is None:
            begun = {key: tensor for key, tensor in state.items() if key.startswith("trunk.")}
        return {key: tensor for key, tensor in self.state_dict().items() if not key.startswith("trunk.")} | begun


def build(config: GlassesRecogniserConfig, context: BuildContext) -> GlassesRecogniser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        if config.trunk is None:
            return GlassesRecogniser(EyeBand(size=config.size, width=config.width), dropout=config.dropout)
        trunk = build_trunk(config.trunk, context, "glasses-recogniser")
        maps = _chosen(trunk.feature_info, config.maps, config.trunk.use)
        return GlassesRecogniser(trunk, maps=maps, dropout=config.dropout)


def _chosen(there: Sequence[FeatureInfo], names: Sequence[str], trunk: str) -> list[int]:
    """Numbers of the maps that are read."""
    known = [info.name for info in there]
    if not names:
        return [max((at for at, info in enumerate(there) if info.stride <= _STRIDE), default=0)]
    if unknown := [name for name in names if name not in known]:
        near = get_close_matches(unknown[0], known, n=1)
        raise OccframeError(
            f"`{trunk}` has no map `{unknown[0]}`",
            remedy=f"did you mean `{near[0]}`?" if near else f"it has: {', '.join(known)}",
        )
    return [known.index(name) for name in names]
