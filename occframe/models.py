"""A trained model on disk: ``model.safetensors``, and ``model.json`` that says how to build it and what to feed it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError, PluginError
from occframe.images import to_model_input
from occframe.precision import Precision, autocast, resolve_precision
from occframe.storage import join, make_dirs, read_bytes, write_bytes, write_json
from occframe.types import ImageSpec
from occframe.weights import load_state_dict

if TYPE_CHECKING:
    from occframe.plugins import PluginRegistry

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"


class ModelCard(BaseModel):
    """``model.json``. fingerprint: sha256 over the weights and everything else that decides an embedding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    backbone: dict[str, Any] = Field(description="the block, as a pipeline writes it")
    owner: str = Field(description="the distribution that provides the backbone")
    owner_version: str
    image_spec: ImageSpec
    embedding_dim: int = Field(ge=1)
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    extra: dict[str, Any] = Field(default_factory=dict, description="what the step that made it wants known")


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

    Each file is written whole or not at all; a reader that comes between the two sees that they do not belong together.
    backbone: a module with ``image_spec`` and ``embedding_dim``. block: what built it. extra: plain JSON.
    """
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()})
    described = {
        "backbone": block.model_dump(mode="json"),
        "image_spec": asdict(backbone.image_spec),  # type: ignore[call-overload]
        "embedding_dim": backbone.embedding_dim,
    }
    card = ModelCard(
        **described,
        owner=block.owner,
        owner_version=_version(block.owner),
        fingerprint=_fingerprint(weights, described),
        extra=dict(extra or {}),
    ).model_dump(mode="json")
    make_dirs(url)
    write_bytes(join(url, WEIGHTS_FILE), weights)
    write_json(join(url, CARD_FILE), card)
    return card


def load_model(url: str, build: BuildContext, *, purpose: Literal["embed", "explain"] = "embed") -> LoadedModel:
    """The model in directory ``url``, ready to embed on ``build.device``.

    purpose: a backbone may have parts that only explaining needs; ``embed`` leaves them out.

    Raises OccframeError: no model there, files that do not belong together, a plugin that is missing or has changed
    (saying which), weights of another architecture (saying which keys).
    """
    card = _read_card(url)
    weights = _read(url, WEIGHTS_FILE)
    described = card.model_dump(mode="json", include={"backbone", "image_spec", "embedding_dim"})
    if _fingerprint(weights, described) != card.fingerprint:
        raise OccframeError(
            f"the model {url} is damaged: {WEIGHTS_FILE} does not belong to its {CARD_FILE}",
            remedy="run the step that made it again",
        )
    block = _block(url, card, build.registry)
    backbone = build.build(block)
    if (backbone.image_spec, backbone.embedding_dim) != (card.image_spec, card.embedding_dim):
        raise OccframeError(
            f"{card.owner} {_version(block.owner)} builds `{block.use}` for {backbone.image_spec}, D = "
            f"{backbone.embedding_dim}; the model {url} was made for {card.image_spec}, D = {card.embedding_dim}",
            remedy=f"install {card.owner} {card.owner_version}, or train the model again",
        )
    try:
        state = load(weights)
    except SafetensorError as error:
        raise OccframeError(f"{join(url, WEIGHTS_FILE)} is damaged: {error}", remedy="make the model again") from error
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
    card = _read_card(url)
    if card.image_spec != backbone.image_spec:
        raise OccframeError(
            f"the model {url} was made for {card.image_spec}, this backbone for {backbone.image_spec}",
            remedy="give the backbone the same input size, colour order and normalisation",
        )
    origin = join(url, WEIGHTS_FILE)
    try:
        state: Mapping[str, Tensor] = load(_read(url, WEIGHTS_FILE))
    except SafetensorError as error:
        raise OccframeError(f"{origin} is damaged: {error}", remedy="make the model again") from error
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


def _read_card(url: str) -> ModelCard:
    raw = _read(url, CARD_FILE)
    try:
        return ModelCard.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OccframeError(
            f"{join(url, CARD_FILE)} is no model description: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy="name the directory of a step that produces a model",
        ) from error


def _read(url: str, name: str) -> bytes:
    try:
        return read_bytes(join(url, name))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OccframeError(
            f"there is no model at {url}: {name} is missing",
            remedy="name the directory of a step that produces a model",
        ) from error


def _block(url: str, card: ModelCard, registry: PluginRegistry) -> BackboneBlock:
    """The block as saved, of the owner it was saved with even if another plugin has taken the name since."""
    flat = dict(card.backbone)
    qualified = f"{card.owner}:{str(flat.get('use')).rpartition(':')[2]}"
    try:
        registry.find("backbone", qualified)
        flat["use"] = qualified
    except PluginError:
        pass  # the plugin may have moved to another distribution: the plain name then decides, or says what is wrong
    try:
        return BackboneBlock.model_validate(flat, context={"registry": registry})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        remedy = (first.get("ctx") or {}).get("remedy") or "write its options as that version knows them"
        raise OccframeError(
            f"cannot build the model {url}: {first['msg']} (it was made by {card.owner} {card.owner_version})",
            remedy=f"install the plugin that made it; {remedy}",
        ) from error


def _fingerprint(weights: bytes, described: Mapping[str, Any]) -> str:
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(hashlib.sha256(weights).digest() + text.encode()).hexdigest()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "-"  # an inline plugin
