"""The files of a trained network: ``model.safetensors``, and ``model.json``: how to build it and what to feed it.

Shared by recognisers (``models.py``) and generators (``generators.py``), whose cards differ in what they describe.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from occframe.component import ComponentBlock
from occframe.errors import OccframeError, PluginError
from occframe.storage import join, make_dirs, read_bytes, write_bytes, write_json
from occframe.types import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from occframe.plugins import PluginRegistry

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"

CardType = TypeVar("CardType", bound="Card")
BlockType = TypeVar("BlockType", bound=ComponentBlock)


class Card(BaseModel):
    """``model.json``. fingerprint: sha256 over the weights and everything else that decides what comes out.

    A kind of network adds a field of the name ``kind``, the block as a pipeline writes it, and what else decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: ClassVar[str]

    format: Literal[1] = 1
    owner: str = Field(description="the distribution that provides the component")
    owner_version: str
    image_spec: ImageSpec
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    extra: dict[str, Any] = Field(default_factory=dict, description="what the step that made it wants known")


#: Fields that say who made a model, not what it gives.
_PROVENANCE = set(Card.model_fields) - {"image_spec"}


def write_model_files(
    url: str,
    network: nn.Module,
    card_type: type[Card],
    block: ComponentBlock,
    extra: Mapping[str, Any] | None,
    **facts: Any,
) -> dict[str, Any]:
    """Write both files into directory ``url`` and return the card's content.

    Each file is written whole or not at all; a reader that comes between the two sees that they do not belong together.
    network: a module with ``image_spec``. facts: further fields of the card that decide what comes out.
    """
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    described = {
        card_type.kind: block.model_dump(mode="json"),
        "image_spec": asdict(network.image_spec),  # type: ignore[call-overload]
    } | facts
    card = card_type(
        **described,
        owner=block.owner,
        owner_version=version_of(block.owner),
        fingerprint=_fingerprint(weights, described),
        extra=dict(extra or {}),
    ).model_dump(mode="json")
    make_dirs(url)
    write_bytes(join(url, WEIGHTS_FILE), weights)
    write_json(join(url, CARD_FILE), card)
    return card


def read_card(url: str, card_type: type[CardType]) -> CardType:
    """Raises OccframeError: no model there, or one of another kind."""
    raw = read_model_file(url, CARD_FILE)
    try:
        return card_type.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OccframeError(
            f"{join(url, CARD_FILE)} is no model description: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy=f"name the directory of a step that produces a {card_type.kind}",
        ) from error


def read_state(url: str, card: Card | None = None) -> dict[str, Tensor]:
    """The weights, checked to belong to ``card`` where one is given."""
    weights = read_model_file(url, WEIGHTS_FILE)
    if (
        card is not None
        and _fingerprint(weights, card.model_dump(mode="json", exclude=_PROVENANCE)) != card.fingerprint
    ):
        raise OccframeError(
            f"the model {url} is damaged: {WEIGHTS_FILE} does not belong to its {CARD_FILE}",
            remedy="run the step that made it again",
        )
    try:
        return dict(load(weights))
    except SafetensorError as error:
        raise OccframeError(f"{join(url, WEIGHTS_FILE)} is damaged: {error}", remedy="make the model again") from error


def read_model_file(url: str, name: str) -> bytes:
    try:
        return read_bytes(join(url, name))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OccframeError(
            f"there is no model at {url}: {name} is missing",
            remedy="name the directory of a step that produces a model",
        ) from error


def block_of(url: str, card: Card, block_type: type[BlockType], registry: PluginRegistry) -> BlockType:
    """The block as saved, of the owner it was saved with even if another plugin has taken the name since."""
    flat = dict(getattr(card, card.kind))
    qualified = f"{card.owner}:{str(flat.get('use')).rpartition(':')[2]}"
    try:
        registry.find(card.kind, qualified)
        flat["use"] = qualified
    except PluginError:
        pass  # the plugin may have moved to another distribution: the plain name then decides, or says what is wrong
    try:
        return block_type.model_validate(flat, context={"registry": registry})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        remedy = (first.get("ctx") or {}).get("remedy") or "write its options as that version knows them"
        raise OccframeError(
            f"cannot build the model {url}: {first['msg']} (it was made by {card.owner} {card.owner_version})",
            remedy=f"install the plugin that made it; {remedy}",
        ) from error


def version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "-"  # an inline plugin


def _fingerprint(weights: bytes, described: Mapping[str, Any]) -> str:
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(hashlib.sha256(weights).digest() + text.encode()).hexdigest()
