"""Trained image-to-image networks on disk, and faces through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.component import BuildContext, GeneratorBlock
from occframe.errors import OccframeError
from occframe.model_files import WEIGHTS_FILE, Card, block_of, read_card, read_state, version_of, write_model_files
from occframe.precision import Precision, autocast, resolve_precision
from occframe.storage import join
from occframe.types import GeneratorOutput, ImageSpec
from occframe.weights import load_state_dict


class GeneratorCard(Card):
    """``model.json`` of a generator."""

    kind: ClassVar[str] = "generator"

    generator: dict[str, Any] = Field(description="the block, as a pipeline writes it")


@dataclass(frozen=True)
class LoadedGenerator:
    """network: an ``nn.Module`` (a ``types.Generator``) in evaluation mode on ``device``, channels last."""

    network: Any
    image_spec: ImageSpec
    fingerprint: str
    block: GeneratorBlock
    device: str
    card: GeneratorCard


def save_generator(
    url: str, network: nn.Module, block: GeneratorBlock, *, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a generator into directory ``url`` (any fsspec URL) and return ``model.json``'s content.

    network: a module with ``image_spec``; its discriminator is not kept. block: what built it. extra: plain JSON.
    """
    return write_model_files(url, network, GeneratorCard, block, extra)


def load_generator(url: str, build: BuildContext) -> LoadedGenerator:
    """The generator in directory ``url``, ready to use on ``build.device``.

    Raises OccframeError: none there, files that do not belong together, a plugin that is missing or has changed
    (saying which), weights of another architecture (saying which keys).
    """
    card = read_card(url, GeneratorCard)
    state = read_state(url, card)
    block = block_of(url, card, GeneratorBlock, build.registry)
    network = build.build(block)
    if network.image_spec != card.image_spec:
        raise OccframeError(
            f"{card.owner} {version_of(block.owner)} builds `{block.use}` for {network.image_spec}; the generator "
            f"{url} was made for {card.image_spec}",
            remedy=f"install {card.owner} {card.owner_version}, or train the generator again",
        )
    load_state_dict(network, state, origin=join(url, WEIGHTS_FILE))
    form = getattr(network, "generate_form", None)
    network = form() if form else network
    network.to(device=build.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return LoadedGenerator(network, card.image_spec, card.fingerprint, block, device=build.device, card=card)


def to_generator_input(images: Tensor, spec: ImageSpec) -> Tensor:
    """images: [B, 3, H, W] RGB, uint8 0..255 or float 0..1, any size. Returns float32 -1..1 in the spec's order."""
    scaled = images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float() * 2 - 1
    return scaled.flip(1) if spec.colour == "BGR" else scaled


def from_generator_output(images: Tensor, spec: ImageSpec) -> Tensor:
    """The inverse of ``to_generator_input``: float -1..1 in the spec's order -> RGB float32 0..1."""
    scaled = (images + 1) / 2
    return scaled.flip(1) if spec.colour == "BGR" else scaled


def generate_images(model: LoadedGenerator, images: Tensor, *, precision: Precision = "auto") -> GeneratorOutput:
    """Faces through a generator: resized to the size it was trained at, and back.

    images: [B, 3, H, W] RGB on any device, uint8 0..255 or float 0..1, of any size.
    Returns images [B, 3, H, W] RGB float32 0..1 and alpha as the generator gives it, on the model's device. Where alpha
    is 0 and H x W another size than the generator's, the pixels are the input's, not ones that were resized twice.
    """
    spec, size = model.image_spec, (images.shape[2], images.shape[3])
    resolved = resolve_precision(precision, model.device)
    with torch.inference_mode():
        given = to_generator_input(images.to(model.device, non_blocking=True), spec)
        fitted = _resize(given, (spec.height, spec.width))
        with autocast(resolved, model.device):
            output = model.network(fitted.contiguous(memory_format=torch.channels_last))
        made, alpha = output.images.float(), None if output.alpha is None else output.alpha.float()
        if fitted.shape != given.shape:
            made = _resize(made, size)
            if alpha is not None:
                alpha = _resize(alpha, size).clamp(0, 1)
                # What resizing loses is kept where nothing changed; under new pixels it is what was to go.
                made = made + (1 - alpha) * (given - _resize(fitted, size))
        return GeneratorOutput(from_generator_output(made, spec).clamp(0, 1), alpha)


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
