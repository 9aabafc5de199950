"""The glasses-removing model: sequentially connected convolution-SE networks.

After US 11403876 B2: in each network convolution layers give one map per channel, a squeeze-and-excitation layer learns
one weight per channel from its global average, and a weighting layer scales the maps. Squeeze and excitation as in Hu
et al., "Squeeze-and-Excitation Networks", CVPR 2018, equations 2 and 3. Sizes and order of layers are this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from occframe.types import GeneratorOutput, ImageSpec
from occframe_deglass.discriminator import PatchDiscriminator

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_deglass.configs import CseConfig

Norm = Callable[[int], nn.Module]

#: Two halvings: sides are padded to a multiple of this.
STRIDE = 4
_LEAST_HIDDEN = 4


class SqueezeExcitation(nn.Module):
    """One weight in 0..1 for each channel, learnt from all of an image: s = sigmoid(W2 relu(W1 z + b1) + b2)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction, _LEAST_HIDDEN)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        squeezed = F.adaptive_avg_pool2d(maps, 1).flatten(1)
        return torch.sigmoid(self.expand(F.relu(self.reduce(squeezed))))[:, :, None, None]


class Weighted(nn.Module):
    """Maps scaled by the weights that ``SqueezeExcitation`` gives them: the weighting layer."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.excitation = SqueezeExcitation(channels, reduction)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.excitation(maps).to(maps.dtype)


class ConvSe(nn.Module):
    """Convolution, norm, ReLU, squeeze and excitation, weighting: one convolution-SE network.

    [B, in_channels, H, W] -> [B, channels, H', W'] as ``convolution`` resizes it.
    """

    def __init__(self, convolution: nn.Module, norm: nn.Module, weighting: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.weighting = convolution, norm, weighting

    def forward(self, x: Tensor) -> Tensor:
        return self.weighting(F.relu(self.norm(self.conv(x)), inplace=True))


class SeResidual(nn.Module):
    """y = x + weighted(conv-norm-ReLU-conv-norm(x)); [B, C, H, W] -> the same."""

    def __init__(self, channels: int, norm: Norm, weighting: nn.Module) -> None:
        super().__init__()
        self.conv1: nn.Module = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2: nn.Module = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)
        self.weighting = weighting

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return x + self.weighting(self.norm2(self.conv2(y)))


class Cse(nn.Module):
    """Faces with glasses -> faces without. Fulfils ``occframe.types.Generator``.

    [B, 3, H, W] in -1..1 -> ``GeneratorOutput``. Sides that are no multiple of 4 are padded by reflection and cut back.
    """

    def __init__(self, config: CseConfig) -> None:
        super().__init__()
        self.image_spec = ImageSpec(config.size, config.size)
        self._discriminator = config.discriminator
        c, norm = config.width, _norm(config.norm)
        everywhere, middle = config.se == "all", config.se != "none"

        def weighting(channels: int, wanted: bool) -> nn.Module:
            return Weighted(channels, config.reduction) if wanted else nn.Identity()

        def down(channels: int) -> ConvSe:
            convolution = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
            return ConvSe(convolution, norm(2 * channels), weighting(2 * channels, everywhere))

        def up(channels: int) -> ConvSe:
            convolution = _enlarging(channels, channels // 2, config.upsampling)
            return ConvSe(convolution, norm(channels // 2), weighting(channels // 2, everywhere))

        stem = nn.Conv2d(3, c, 7, padding=3, padding_mode="reflect", bias=False)
        self.stem = ConvSe(stem, norm(c), nn.Identity())
        self.down = nn.Sequential(down(c), down(2 * c))
        self.middle = nn.Sequential(*(SeResidual(4 * c, norm, weighting(4 * c, middle)) for _ in range(config.blocks)))
        self.up = nn.Sequential(up(4 * c), up(2 * c))
        self.to_image = nn.Conv2d(c, 3, 7, padding=3, padding_mode="reflect")
        # A 3 x 3 is enough to say where: a fourth channel of the 7 x 7 would cost five times as much.
        self.to_alpha = nn.Conv2d(c, 1, 3, padding=1) if config.blend else None

    def forward(self, images: Tensor) -> GeneratorOutput:
        height, width = images.shape[2:]
        bottom, right = -height % STRIDE, -width % STRIDE
        padded = F.pad(images, (0, right, 0, bottom), mode="reflect") if bottom or right else images
        maps = self.up(self.middle(self.down(self.stem(padded))))
        # In float32: bfloat16 has no name for each of 256 grey levels near white.
        drawn = torch.tanh(self.to_image(maps).float())[:, :, :height, :width]
        if self.to_alpha is None:
            return GeneratorOutput(drawn)
        alpha = torch.sigmoid(self.to_alpha(maps).float())[:, :, :height, :width]
        return GeneratorOutput(images + alpha * (drawn - images), alpha)

    def discriminator(self) -> PatchDiscriminator:
        return PatchDiscriminator(self._discriminator)

    def generate_form(self) -> Self:
        """A copy whose batch norms are part of the convolutions before them; the same result, in evaluation mode."""
        copy = deepcopy(self).eval()
        for module in copy.modules():
            if isinstance(module, ConvSe) and isinstance(module.norm, nn.BatchNorm2d):
                module.conv, module.norm = _folded(module.conv, module.norm), nn.Identity()
            elif isinstance(module, SeResidual) and isinstance(module.norm1, nn.BatchNorm2d):
                module.conv1, module.norm1 = _folded(module.conv1, module.norm1), nn.Identity()
                module.conv2, module.norm2 = _folded(module.conv2, module.norm2), nn.Identity()
        return copy


def build(config: CseConfig, context: BuildContext) -> Cse:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return Cse(config)


def _norm(name: str) -> Norm:
    if name == "instance":
        return lambda channels: nn.InstanceNorm2d(channels, affine=True)
    return nn.BatchNorm2d


def _enlarging(in_channels: int, channels: int, how: str) -> nn.Module:
    """A convolution that doubles height and width."""
    if how == "transposed":
        return nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1, bias=False)
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    enlarge = nn.Upsample(scale_factor=2, mode=how, **({"align_corners": False} if how == "bilinear" else {}))
    return nn.Sequential(enlarge, convolution)


def _folded(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    if isinstance(convolution, nn.Sequential):
        *before, last = convolution
        return nn.Sequential(*before, _folded(last, norm))
    assert isinstance(convolution, (nn.Conv2d, nn.ConvTranspose2d))
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, nn.ConvTranspose2d))
