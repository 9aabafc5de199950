"""Trained recognisers on disk, and what they say of faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError
from occframe.images import to_model_input
from occframe.model_files import WEIGHTS_FILE, Card, block_of, read_card, read_state, version_of, write_model_files
from occframe.precision import Precision, autocast, resolve_precision
from occframe.storage import join
from occframe.types import ImageSpec
from occframe.weights import load_state_dict


class ModelCard(Card):
    """``model.json`` of a recogniser."""

    kind: ClassVar[str] = "backbone"

    backbone: dict[str, Any] = Field(description="the block, as a pipeline writes it")
    embedding_dim: int = Field(ge=1)


@dataclass(frozen=True)
class LoadedModel:
    """backbone: an ``nn.Module`` (a ``types.Backbone``) in evaluation mode on ``device``, channels last."""

    backbone: Any
    image_spec: ImageSpec
    embedding_dim: int
    fingerprint: str
    block: BackboneBlock
    device: str
    card: ModelCard


def save_model(
    url: str, backbone: nn.Module, block: BackboneBlock, *, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a model artefact into directory ``url`` (any fsspec URL) and return ``model.json``'s content.

    backbone: a module with ``image_spec`` and ``embedding_dim``. block: what built it. extra: plain JSON.
    """
    return write_model_files(url, backbone, ModelCard, block, extra, embedding_dim=backbone.embedding_dim)


def load_model(url: str, build: BuildContext, *, purpose: Literal["embed", "explain"] = "embed") -> LoadedModel:
    """The model in directory ``url``, ready to embed on ``build.device``.

    purpose: a backbone may have parts that only explaining needs; ``embed`` leaves them out.

    Raises OccframeError: no model there, files that do not belong together, a plugin that is missing or has changed
    (saying which), weights of another architecture (saying which keys).
    """
    card = read_card(url, ModelCard)
    state = read_state(url, card)
    block = block_of(url, card, BackboneBlock, build.registry)
    backbone = build.build(block)
    if (backbone.image_spec, backbone.embedding_dim) != (card.image_spec, card.embedding_dim):
        raise OccframeError(
            f"{card.owner} {version_of(block.owner)} builds `{block.use}` for {backbone.image_spec}, D = "
            f"{backbone.embedding_dim}; the model {url} was made for {card.image_spec}, D = {card.embedding_dim}",
            remedy=f"install {card.owner} {card.owner_version}, or train the model again",
        )
    load_state_dict(backbone, state, origin=join(url, WEIGHTS_FILE))
    form = getattr(backbone, f"{purpose}_form", None)
    backbone = form() if form else backbone
    backbone.to(device=build.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return LoadedModel(
        backbone, card.image_spec, card.embedding_dim, card.fingerprint, block, device=build.device, card=card
    )


def begin_from(backbone: nn.Module, url: str) -> None:
    """Give ``backbone`` the weights of the model in directory ``url`` to begin a training with.

    A backbone that offers ``begin_state_dict`` may take those of another one and keep parts as they are.
    Raises OccframeError: no model there, one that was fed other images, or weights of another architecture.
    """
    card = read_card(url, ModelCard)
    if card.image_spec != backbone.image_spec:
        raise OccframeError(
            f"the model {url} was made for {card.image_spec}, this backbone for {backbone.image_spec}",
            remedy="give the backbone the same input size, colour order and normalisation",
        )
    origin = join(url, WEIGHTS_FILE)
    state: Mapping[str, Tensor] = read_state(url)
    begin = getattr(backbone, "begin_state_dict", None)
    load_state_dict(backbone, begin(state) if begin else state, origin=origin)


def embed_images(model: LoadedModel, images: Tensor, *, precision: Precision = "auto", flip: bool = False) -> Tensor:
    """Embeddings [B, D] float32, L2-normalised, on the model's device.

    images: [B, 3, H, W] RGB on any device, uint8 0..255 or float 0..1, of the model's size.
    flip: add the mirrored image's embedding before normalising, as face recognisers are often evaluated.
    """
    return embed_and_describe(model, images, precision=precision, flip=flip, describe=False)[0]


def embed_and_describe(
    model: LoadedModel, images: Tensor, *, precision: Precision = "auto", flip: bool = False, describe: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """What ``embed_images`` gives, and what the model says of each image as it is: tensors [B] by the names of its
    backbone's ``columns``, nothing for a backbone without. Arguments as there; ``model`` loaded to explain."""
    resolved = resolve_precision(precision, model.device)
    with torch.inference_mode(), autocast(resolved, model.device):
        x = to_model_input(images.to(model.device, non_blocking=True), model.image_spec)
        x = x.contiguous(memory_format=torch.channels_last)
        output = model.backbone(x)
        embedding = output.embedding.float()
        if flip:
            embedding = embedding + model.backbone(x.flip(3)).embedding.float()
        said = model.backbone.describe(output) if describe and hasattr(model.backbone, "columns") else {}
        return F.normalize(embedding), dict(said)
