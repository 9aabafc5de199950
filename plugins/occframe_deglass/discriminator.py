"""PatchGAN: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, 3.2.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

if TYPE_CHECKING:
    from occframe_deglass.configs import DiscriminatorConfig


class PatchDiscriminator(nn.Module):
    """A score for each patch of 70 x 70 pixels: [B, 3, H, W] in -1..1 -> [B, 1, H/8 - 2, W/8 - 2], unbounded.

    No norm between its layers: a score depends on its own patch and on nothing else of the batch.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width = config.width
        layers: list[nn.Module] = []
        channels = 3
        for number, stride in enumerate((2, 2, 2, 1)):
            wider = width * 2**number
            layers += [_convolution(channels, wider, stride, config.spectral_norm), nn.LeakyReLU(0.2, inplace=True)]
            channels = wider
        self.layers = nn.Sequential(*layers, _convolution(channels, 1, 1, config.spectral_norm))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).float()


def _convolution(in_channels: int, channels: int, stride: int, normalised: bool) -> nn.Module:
    convolution = nn.Conv2d(in_channels, channels, 4, stride=stride, padding=1)
    return spectral_norm(convolution) if normalised else convolution
