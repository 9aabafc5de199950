"""The smallest components with which a training is a training: for tests of what surrounds them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from occframe import hookimpl
from occframe.component import BuildContext, Config
from occframe.plugins import PluginRegistry, Register
from occframe.types import BackboneOutput, FaceBatch, FeatureInfo, ImageSpec, Occluded

SIZE = 8

# More threads are slower on tensors this small, many times so on a busy machine.
torch.set_num_threads(1)


class TinyConfig(Config):
    dropout: float = Field(0.2, ge=0, lt=1, description="so that training draws random numbers of its own")


class TinyBackbone(nn.Module):
    """One convolution with batch norm and dropout; ``extras`` has the "brightness" of each image, in training only."""

    image_spec = ImageSpec(height=SIZE, width=SIZE)
    embedding_dim = 8
    feature_info = (FeatureInfo("map", 8, 2),)

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(8 * (SIZE // 2) ** 2, 8))

    def forward(self, images: Tensor) -> BackboneOutput:
        features = self.trunk(images)
        extras = {"brightness": images.mean(dim=(1, 2, 3))} if self.training else {}
        return BackboneOutput(self.head(features), [features], extras)


class SoftmaxConfig(Config):
    pass


class Softmax(nn.Module):
    """Cross-entropy over class centres that it owns."""

    needs = frozenset({"identities"})

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.centres = nn.Linear(dim, classes)

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        assert output.embedding.dtype == torch.float32
        return nn.functional.cross_entropy(self.centres(output.embedding), batch.identities)


class NeedyConfig(Config):
    needs: list[str] = Field([], description="what it asks for")


class Needy(nn.Module):
    """Asks for anything; its loss is 0."""

    def __init__(self, needs: Sequence[str]) -> None:
        super().__init__()
        self.needs = frozenset(needs)

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        for need in self.needs:
            head, _, key = need.partition(".")
            assert (output.extras[key] if head == "extras" else getattr(batch, head)) is not None
        return output.embedding.sum() * 0


class PoisonConfig(Config):
    step: int = Field(7, ge=1, description="the step whose loss becomes NaN")


class Poison(nn.Module):
    """A loss of 0 that becomes NaN at a chosen step."""

    needs: frozenset[str] = frozenset()

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.seen = step, 0

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        self.seen += 1
        return output.embedding.sum() * (float("nan") if self.seen == self.step else 0.0)


class BlotConfig(Config):
    pass


class Blot:
    """Blackens the left half."""

    def sample(self, batch: FaceBatch, seeds: Tensor) -> dict[str, Tensor]:
        return {"width": torch.full((len(seeds),), batch.images.shape[3] // 2, device=batch.images.device)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Occluded:
        columns = torch.arange(images.shape[3], device=images.device)
        mask = (columns < params["width"].to(images.device)[:, None]).float()
        mask = mask[:, None, None, :].expand(-1, 1, images.shape[2], -1)
        return Occluded(torch.where(mask > 0, torch.zeros_like(images), images), mask.contiguous())


class TinyFaces:
    """``identities`` noisy colours, ``each`` pictures of every one; fulfils ``Dataset``."""

    aligned = True

    def __init__(self, identities: int = 4, each: int = 8, *, landmarks: bool = False) -> None:
        draw = np.random.default_rng(0)
        colours = draw.integers(40, 216, (identities, 3))
        noise = draw.integers(-30, 30, (identities, each, SIZE, SIZE, 3))
        self.images = (colours[:, None, None, None] + noise).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)
        self.subjects = [f"person {number // each}" for number in range(identities * each)]
        self.ids = [f"{subject}/{number}" for number, subject in enumerate(self.subjects)]
        self.landmarks = np.zeros((len(self.ids), 5, 2), np.float32) if landmarks else None
        self.attributes: dict[str, np.ndarray] = {}
        self.blocks = [range(len(self.ids))]

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        return [self.images[row] for row in rows]

    def fingerprint(self) -> str:
        return f"tiny {len(self.ids)}"


# This module is the plugin.


@hookimpl
def occframe_register_backbones(register: Register) -> None:
    register("tiny", lambda config, context: TinyBackbone(config), config=TinyConfig, summary="one convolution")


@hookimpl
def occframe_register_losses(register: Register) -> None:
    def softmax(config: SoftmaxConfig, context: BuildContext) -> Softmax:
        assert context.embedding_dim is not None
        assert context.num_identities is not None
        return Softmax(context.embedding_dim, context.num_identities)

    register("softmax", softmax, config=SoftmaxConfig, summary="cross-entropy")
    register("needy", lambda config, context: Needy(config.needs), config=NeedyConfig, summary="needs things")
    register("poison", lambda config, context: Poison(config.step), config=PoisonConfig, summary="turns NaN")


@hookimpl
def occframe_register_occlusions(register: Register) -> None:
    register("blot", lambda config, context: Blot(), config=BlotConfig, summary="blackens the left half")


def tiny_registry() -> PluginRegistry:
    """The installed plugins and ``tiny``: backbone tiny, losses softmax, needy and poison, occlusion blot."""
    registry = PluginRegistry.discover()
    record = registry.register(sys.modules[__name__], name="tiny", distribution="occframe-tiny")
    assert record.status == "loaded", record
    return registry
