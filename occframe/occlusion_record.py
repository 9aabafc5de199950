"""What an occluded data set remembers: the recipe it was made by, and each image's parameters as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from occframe.component import OcclusionBlock
from occframe.errors import OccframeError


def to_plain(params: Any, row: int) -> Any:
    """One image's parameters as JSON values; tensors become numbers or lists of them, exactly."""
    if isinstance(params, Tensor):
        return params[row].tolist()
    if isinstance(params, Mapping):
        return {str(key): to_plain(value, row) for key, value in params.items()}
    if isinstance(params, list | tuple):
        return [to_plain(value, row) for value in params]
    if is_dataclass(params) and not isinstance(params, type):
        return {item.name: to_plain(getattr(params, item.name), row) for item in fields(params)}
    return params


def from_plain(rows: Sequence[Any], like: Any) -> Any:
    """Parameters of several images from ``to_plain``.

    like: what the generator's ``sample`` gives for any batch: structure and dtypes are taken from it, so that nothing
    a file says decides what is made of it. Raises OccframeError where the rows do not fit.
    """
    try:
        return _rebuilt(rows, like)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise OccframeError(
            f"these parameters are not of this generator: {type(error).__name__} {error}",
            remedy="use the generator and version that the recipe names",
        ) from error


def _rebuilt(rows: Sequence[Any], like: Any) -> Any:
    if isinstance(like, Tensor):
        made = torch.tensor(rows, dtype=like.dtype)
        if made.shape[1:] != like.shape[1:]:
            raise ValueError(f"{tuple(made.shape[1:])} numbers an image, {tuple(like.shape[1:])} expected")
        return made
    if isinstance(like, Mapping):
        return {key: _rebuilt([row[key] for row in rows], value) for key, value in like.items()}
    if isinstance(like, list | tuple):
        return type(like)(_rebuilt([row[at] for row in rows], value) for at, value in enumerate(like))
    if is_dataclass(like) and not isinstance(like, type):
        own = {item.name: getattr(like, item.name) for item in fields(like)}
        return replace(like, **{name: _rebuilt([row[name] for row in rows], value) for name, value in own.items()})
    return like


def described(generator: Any, block: OcclusionBlock) -> dict[str, Any]:
    """A generator and its options as plain data, for a recipe. Where it has ``recipe``, options that say what it took
    from files in place of where they lie, these are taken: a recipe is the same on every machine."""
    own: Mapping[str, Any] | None = getattr(generator, "recipe", None)
    return {"use": block.use} | dict(own) if own is not None else block.model_dump(mode="json")


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """16 hex digits that are the same on every machine for the same recipe (plain JSON data)."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def source_digest(faces: Iterable[tuple[str, str, bytes, bytes]]) -> str:
    """Of (id, identity, picture's bytes, those of its landmarks): another order of rows is the same source."""
    lines = (
        hashlib.blake2b(
            b"".join(
                len(part).to_bytes(8, "little") + part for part in (id.encode(), identity.encode(), picture, landmarks)
            ),
            digest_size=16,
        ).digest()
        for id, identity, picture, landmarks in faces
    )
    # Sums to the same in any order, with no list of millions to sort.
    total = sum(int.from_bytes(line, "little") for line in lines) % (1 << 128)
    return total.to_bytes(16, "little").hex()
