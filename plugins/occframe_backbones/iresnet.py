"""IResNet, the trunk of ArcFace: Deng et al., "ArcFace", CVPR 2019, section 3.1 ("BN-Conv-BN-PReLU-Conv-BN").

Parameter names and shapes are those of InsightFace's arcface_torch, so that its checkpoints load unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from occframe.types import BackboneOutput, FeatureInfo, ImageSpec
from occframe_backbones.key_maps import guess_block

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_backbones.configs import IResNetConfig

STAGE_CHANNELS = (64, 128, 256, 512)


class ResidualBlock(nn.Module):
    """[B, in_channels, H, W] -> [B, channels, H/stride, W/stride]; nothing follows the addition."""

    def __init__(self, *, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
            if stride != 1 or in_channels != channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class IResNet(nn.Module):
    """Images [B, 3, H, W] -> embedding [B, D]; maps of the four stages at strides 2, 4, 8 and 16."""

    feature_info = tuple(
        FeatureInfo(f"layer{stage}", channels, 2**stage) for stage, channels in enumerate(STAGE_CHANNELS, start=1)
    )

    def __init__(
        self, *, blocks: tuple[int, int, int, int], image_spec: ImageSpec, embedding_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.image_spec = image_spec
        self.embedding_dim = embedding_dim
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, 64, blocks[0])
        self.layer2 = _stage(64, 128, blocks[1])
        self.layer3 = _stage(128, 256, blocks[2])
        self.layer4 = _stage(256, 512, blocks[3])
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * (image_spec.height // 16) * (image_spec.width // 16), embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        # As in arcface_torch: the embedding is normalised anyway, a learnt scale would only drift.
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, images: Tensor) -> BackboneOutput:
        maps = self.forward_features(images)
        return BackboneOutput(self.forward_head(maps[-1]), features=maps)

    def forward_features(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W], normalised as ``image_spec`` says -> the maps of ``feature_info``, deepest last."""
        x = self.prelu(self.bn1(self.conv1(images)))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def forward_head(self, deepest: Tensor) -> Tensor:
        """The deepest map [B, 512, H/16, W/16] -> embedding [B, D], in the precision of the weights."""
        # bf16 keeps three digits of a cosine; outside autocast this one layer costs little and keeps all of them.
        with torch.autocast(deepest.device.type, enabled=False):
            x = self.bn2(deepest.to(self.fc.weight.dtype))
            return self.features(self.fc(self.dropout(torch.flatten(x, 1))))

    @staticmethod
    def describe_state_dict(state: Mapping[str, Tensor]) -> str | None:
        """The block that a checkpoint's names and shapes suggest, for error messages."""
        return guess_block(state)


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(in_channels=in_channels, channels=channels, stride=2),
        *(ResidualBlock(in_channels=channels, channels=channels, stride=1) for _ in range(blocks - 1)),
    )


def _build(blocks: tuple[int, int, int, int], config: IResNetConfig, context: BuildContext) -> IResNet:
    height, width = config.input_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return IResNet(
            blocks=blocks,
            image_spec=ImageSpec(height=height, width=width, colour=config.colour),
            embedding_dim=config.embedding_dim,
            dropout=config.dropout,
        )


def build_iresnet18(config: IResNetConfig, context: BuildContext) -> IResNet:
    return _build((2, 2, 2, 2), config, context)


def build_iresnet34(config: IResNetConfig, context: BuildContext) -> IResNet:
    return _build((3, 4, 6, 3), config, context)


def build_iresnet50(config: IResNetConfig, context: BuildContext) -> IResNet:
    return _build((3, 4, 14, 3), config, context)


def build_iresnet100(config: IResNetConfig, context: BuildContext) -> IResNet:
    return _build((3, 13, 30, 3), config, context)
