"""MobileFaceNet: Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices", CCBR 2018, arXiv 1804.07573, table 1; and the two public variants whose weights it loads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from occframe.types import BackboneOutput, FeatureInfo, ImageSpec
from occframe_backbones.convolution import convolve, fold
from occframe_backbones.key_maps import guess_block, to_own_names

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_backbones.configs import MobileFaceNetConfig

Activation = Callable[[int], nn.Module]

# The paper subtracts 127.5 and divides by 128.
PAPER_STD = (128 / 255, 128 / 255, 128 / 255)


@dataclass(frozen=True)
class Variant:
    """separable_stem: 64 -> 64 pointwise convolution after the stem's depthwise one. bias: in the last 1 x 1."""

    image_spec: ImageSpec
    activation: Activation
    stem_activation: Activation
    separable_stem: bool
    bias: bool


def _relu(channels: int, *, six: bool) -> nn.Module:
    return nn.ReLU6(inplace=True) if six else nn.ReLU(inplace=True)


VARIANTS = {
    "paper": Variant(ImageSpec(112, 112, std=PAPER_STD), nn.PReLU, nn.PReLU, separable_stem=False, bias=False),
    "xiaoccer": Variant(ImageSpec(112, 96, std=PAPER_STD), nn.PReLU, nn.PReLU, separable_stem=False, bias=False),
    "foamliu": Variant(
        ImageSpec(112, 112, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        partial(_relu, six=True),
        partial(_relu, six=False),
        separable_stem=True,
        bias=True,
    ),
}


class ConvUnit(nn.Module):
    """Convolution, batch norm and, where there is one, activation."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
        activation: Activation | None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=bias)
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.act = nn.Identity() if activation is None else activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        # A norm that was folded for inference is an identity.
        if not torch.is_grad_enabled() or not isinstance(self.norm, nn.BatchNorm2d):
            return self.act(self.norm(self.conv(x)))
        if self.norm.training:
            return self.act(self.norm(convolve(self.conv, x, self.conv.weight, self.conv.bias)))
        return self.act(convolve(self.conv, x, *fold(self.conv, self.norm)))


class Bottleneck(nn.Module):
    """Inverted residual: 1 x 1 to ``expansion`` times the channels, depthwise 3 x 3, linear 1 x 1."""

    def __init__(self, *, in_channels: int, channels: int, stride: int, expansion: int, activation: Activation) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.residual = stride == 1 and in_channels == channels
        self.expand = ConvUnit(in_channels, wide, 1, activation=activation)
        self.depthwise = ConvUnit(wide, wide, 3, stride=stride, padding=1, groups=wide, activation=activation)
        self.project = ConvUnit(wide, channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileFaceNet(nn.Module):
    """Images [B, 3, H, W] -> embedding [B, D]; maps at strides 2, 4, 8 and 16, the last one with 512 channels."""

    feature_info = (
        FeatureInfo("stem", 64, 2),
        FeatureInfo("stage1", 64, 4),
        FeatureInfo("stage2", 128, 8),
        FeatureInfo("last", 512, 16),
    )

    def __init__(self, *, variant: Variant, embedding_dim: int) -> None:
        super().__init__()
        self.image_spec = variant.image_spec
        self.embedding_dim = embedding_dim
        act, stem_act = variant.activation, variant.stem_activation
        self.stem = ConvUnit(3, 64, 3, stride=2, padding=1, activation=act)
        self.stem_depthwise = ConvUnit(64, 64, 3, padding=1, groups=64, activation=stem_act)
        self.stem_pointwise = ConvUnit(64, 64, 1, activation=stem_act) if variant.separable_stem else nn.Identity()
        # Table 1 as (expansion, channels, blocks, stride); the stages here end where the stride changes.
        self.stage1 = _stage(64, [(2, 64, 5, 2)], act)
        self.stage2 = _stage(64, [(4, 128, 1, 2), (2, 128, 6, 1)], act)
        self.stage3 = _stage(128, [(4, 128, 1, 2), (2, 128, 2, 1)], act)
        self.last = ConvUnit(128, 512, 1, activation=act)
        kernel = (self.image_spec.height // 16, self.image_spec.width // 16)
        self.pool = ConvUnit(512, 512, kernel, groups=512, activation=None)
        self.fc = ConvUnit(512, embedding_dim, 1, bias=variant.bias, activation=None)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> BackboneOutput:
        maps = self.forward_features(images)
        return BackboneOutput(self.forward_head(maps[-1]), features=maps)

    def forward_features(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W], normalised as ``image_spec`` says -> the maps of ``feature_info``, deepest last."""
        stem = self.stem_pointwise(self.stem_depthwise(self.stem(images)))
        stage1 = self.stage1(stem)
        stage2 = self.stage2(stage1)
        return [stem, stage1, stage2, self.last(self.stage3(stage2))]

    def forward_head(self, deepest: Tensor) -> Tensor:
        """The deepest map [B, 512, H/16, W/16] -> embedding [B, D], in the precision of the weights."""
        # Outside autocast, as in IResNet: the head is a thousandth of the work and decides the digits of the cosine.
        with torch.autocast(deepest.device.type, enabled=False):
            return torch.flatten(self.fc(self.pool(deepest.to(self.fc.conv.weight.dtype))), 1)

    def embed_form(self) -> MobileFaceNet:
        """A copy for inference, batch norms folded into the convolutions before them. Same embedding to 1e-5."""
        form = copy.deepcopy(self).eval().requires_grad_(False)
        for unit in form.modules():
            if isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d):
                weight, bias = fold(unit.conv, unit.norm)
                unit.conv.weight, unit.conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
                unit.norm = nn.Identity()
        return form

    @staticmethod
    def adapt_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters of the public implementations under our names; ours pass unchanged."""
        return to_own_names(state)

    @staticmethod
    def describe_state_dict(state: Mapping[str, Tensor]) -> str | None:
        """The block that a checkpoint's names and shapes suggest, for error messages."""
        return guess_block(state)


def _stage(in_channels: int, rows: list[tuple[int, int, int, int]], activation: Activation) -> nn.Sequential:
    blocks = []
    for expansion, channels, count, stride in rows:
        for index in range(count):
            blocks.append(
                Bottleneck(
                    in_channels=in_channels,
                    channels=channels,
                    stride=stride if index == 0 else 1,
                    expansion=expansion,
                    activation=activation,
                )
            )
            in_channels = channels
    return nn.Sequential(*blocks)


def build_mobilefacenet(config: MobileFaceNetConfig, context: BuildContext) -> MobileFaceNet:
    variant = VARIANTS[config.preset]
    if config.input_size is not None:
        height, width = config.input_size
        variant = replace(variant, image_spec=replace(variant.image_spec, height=height, width=width))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return MobileFaceNet(variant=variant, embedding_dim=config.embedding_dim)
