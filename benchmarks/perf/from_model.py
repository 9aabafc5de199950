"""What FROM costs: a training step of the reference network against the published arithmetic, and inference against the
plain trunk.

Published arithmetic: float32, contiguous, the four dead pyramid convolutions and a second pass of the head over the
unmasked map included. One thread and CPU time on both sides, so that a busy machine changes neither.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from side_by_side import Comparison, interleave, main
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.component import BackboneBlock, BuildContext, LossBlock
from occframe.plugins import PluginRegistry
from occframe.training.optimisers import Sgd, build_optimiser
from occframe.training.recogniser import GradientStep, Recogniser, Term
from occframe.types import BackboneOutput, FaceBatch
from occframe_from.folding import fold_trunk
from occframe_from.network import MaskedRecogniser

CLASSES = 10_572  # of CASIA-WebFace
BUILD = BuildContext(PluginRegistry.discover(environ={}))


class PublishedArithmetic(nn.Module):
    """The reference network with all that its authors' code computes."""

    def __init__(self, network: MaskedRecogniser) -> None:
        super().__init__()
        self.network = network
        self.image_spec, self.embedding_dim = network.image_spec, network.embedding_dim
        self.smooth4, self.smooth5 = nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1)
        self.p6, self.p7 = nn.Conv2d(512, 256, 3, 2, 1), nn.Conv2d(256, 256, 3, 2, 1)

    def forward(self, images: Tensor) -> BackboneOutput:
        output = self.network(images)
        _, _, middle, deepest = output.features
        laterals = self.network.pyramid.laterals
        coarse = laterals[2](deepest)
        merged = laterals[1](middle) + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        self.smooth4(merged), self.smooth5(coarse), self.p7(torch.relu(self.p6(deepest)))
        self.network.head(deepest)
        return output


def build(use: str, **options: Any) -> Any:
    return BUILD.build(BackboneBlock.model_validate({"use": use, **options}, context={"registry": BUILD.registry}))


def loss(use: str, **options: Any) -> Any:
    block = LossBlock.model_validate({"use": use, **options}, context={"registry": BUILD.registry})
    return BUILD.build(block, num_identities=CLASSES, embedding_dim=512)


def batch_of(count: int) -> FaceBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 112, 96), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(count, 1, 112, 96)
    mask[::2, :, 60:, 20:80] = 1
    return FaceBatch(images, torch.arange(count), torch.arange(count), mask=mask)


def training(backbone: Any, *, fast: bool) -> GradientStep:
    terms = [Term("cosface", 1.0, loss("cosface", scale=30)), Term("pattern", 1.0, loss("occlusion-pattern"))]
    recogniser = Recogniser(backbone, terms, precision="bf16" if fast else "fp32", channels_last=fast).train()
    return GradientStep(recogniser, build_optimiser(Sgd(lr=0.01), recogniser.parameters()))


def step_rate(step: GradientStep, batch: FaceBatch) -> float:
    began = time.process_time()
    step(batch, 0.01)
    return len(batch.images) / (time.process_time() - began)


def embedding_time(model: nn.Module, images: Tensor) -> float:
    """Milliseconds of one thread an image, bf16, channels last."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        began = time.process_time()
        model(images)
        return (time.process_time() - began) / len(images) * 1e3


def inference(name: str, network: Any, trunk: Any, images: Tensor, *, bar: str, rounds: int) -> Comparison:
    for model in (network, trunk):
        model.eval().to(memory_format=torch.channels_last)
    return interleave(
        name,
        lambda: embedding_time(network, images),
        lambda: embedding_time(trunk, images),
        unit="ms",
        bar=bar,
        rounds=rounds,
    )


def compare(quick: bool) -> list[Comparison]:
    torch.set_num_threads(1)
    rounds = 2 if quick else 5
    ours = training(build("from-reference"), fast=True)
    theirs = training(PublishedArithmetic(build("from-reference")), fast=False)
    batch = batch_of(4 if quick else 16)
    rows = [
        interleave(
            "training step of from-reference, bf16 channels_last",
            lambda: step_rate(ours, batch),
            lambda: step_rate(theirs, batch),
            unit="images/s",
            bar=">= 2",
            rounds=rounds,
        )
    ]
    faces = torch.randn(2 if quick else 8, 3, 112, 96).contiguous(memory_format=torch.channels_last)
    reference, plain = build("from-reference").eval(), build("from-reference", masked=False).eval()
    name = "embed form of from-reference, against its trunk"
    rows.append(inference(name, reference.embed_form(), plain, faces, bar="<= 1.15", rounds=2 * rounds))
    name = "the same, the trunk's batch norms folded as well"
    rows.append(inference(name, reference.embed_form(), plain.embed_form(), faces, bar="-", rounds=2 * rounds))
    faces = torch.randn(8 if quick else 32, 3, 112, 112).contiguous(memory_format=torch.channels_last)
    trunk = {"use": "mobilefacenet", "preset": "foamliu"}
    for width in (16, 32, 64):
        network = build("from", trunk=trunk, pyramid=width).eval().embed_form()
        name = f"embed form of from on mobilefacenet, pyramid {width}"
        bar = "<= 1.3" if width == 16 else "-"
        rows.append(inference(name, network, build(**trunk), faces, bar=bar, rounds=2 * rounds))
    folded = build(**trunk).eval()
    fold_trunk(folded)
    network = build("from", trunk=trunk, pyramid=16).eval().embed_form()
    name = "pyramid 16, the trunk's batch norms folded as well"
    rows.append(inference(name, network, folded, faces, bar="-", rounds=2 * rounds))
    return rows


if __name__ == "__main__":
    main(compare)
