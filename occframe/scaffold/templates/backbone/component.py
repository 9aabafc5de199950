"""A small recognition network. Put yours here."""

import torch
from torch import nn

from occframe import BackboneOutput, FeatureInfo, ImageSpec


class {{Class}}(nn.Module):
    """Fulfils ``occframe.types.Backbone``."""

    def __init__(self, config, context):
        super().__init__()
        # What it must be fed; checked wherever images meet it. Inputs are (x / 255 - mean) / std.
        self.image_spec = ImageSpec(height=config.size, width=config.size)
        self.embedding_dim = config.embedding_dim
        self.feature_info = (FeatureInfo("trunk", 64, 4),)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.PReLU(32),
                nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64),
            )  # fmt: skip
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(64 * (config.size // 4) ** 2, config.embedding_dim))

    def forward_features(self, images):
        """With capability `split`: the maps that ``feature_info`` declares, the deepest last."""
        return [self.trunk(images)]

    def forward_head(self, deepest):
        """With capability `split`: [B, embedding_dim], not normalised."""
        return self.head(deepest)

    def forward(self, images):
        """images: [B, 3, H, W] float."""
        maps = self.forward_features(images)
        return BackboneOutput(self.forward_head(maps[-1]), maps)
