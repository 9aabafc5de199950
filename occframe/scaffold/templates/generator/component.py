"""A small image-to-image network that says how much of each pixel is new. Put yours here."""

import torch
from torch import nn

from occframe import GeneratorOutput, ImageSpec


class {{Class}}(nn.Module):
    """Fulfils ``occframe.types.Generator``: images [B, 3, H, W] in -1..1, of any size from 8 x 8 on."""

    def __init__(self, config, context):
        super().__init__()
        self.image_spec = ImageSpec(height=config.size, width=config.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self.drawn = nn.Sequential(
                nn.Conv2d(3, config.width, 3, 1, 1), nn.BatchNorm2d(config.width), nn.ReLU(),
                nn.Conv2d(config.width, 4, 3, 1, 1),
            )  # fmt: skip

    def forward(self, images):
        colours, alpha = self.drawn(images).split([3, 1], dim=1)
        alpha = alpha.sigmoid()
        return GeneratorOutput(images + alpha * (colours.tanh() - images), alpha)

    def discriminator(self):
        """A new network that scores images: large for real ones, of any shape [B, ...]."""
        return nn.Sequential(nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, 2, 1))
