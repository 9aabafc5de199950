"""Parts of a recogniser that learn at their own pace: new layers faster, an adapted trunk slower or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field

from occframe.component import Config
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from torch import nn

    from occframe.training.recogniser import Recogniser

T = TypeVar("T")


class Part(Config):
    rate: float = Field(
        1.0, ge=0, description="factor on the learning rate; 0 freezes the part: weights, statistics and dropout"
    )
    statistics: Literal["learn", "keep"] = Field(
        "learn", description="of batch norms: keep those the part came with, as fine-tuning on little data does"
    )


def apply_parts(recogniser: Recogniser, parts: Mapping[str, Part]) -> dict[nn.Parameter, float]:
    """Freeze what is to be frozen; returns the factor on the learning rate of every other parameter.

    parts: by the beginning of names, whole words between dots; the longest that fits decides. A name is the backbone's
    own (``trunk.layer1.0.conv1.weight``), or ``losses.NAME. …`` of a loss term; ``backbone`` is all of the former.
    Raises OccframeError for a part that nothing belongs to.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    if not parts:
        return {}
    names = dict(_renamed(recogniser, recogniser.named_modules()))
    used: set[str] = set()
    factors: dict[nn.Parameter, float] = {}
    for name, parameter in _renamed(recogniser, recogniser.named_parameters()):
        key = _part_of(name, parts)
        if key is None:
            continue
        used.add(key)
        if parts[key].rate == 0:
            parameter.requires_grad_(False)
        else:
            factors[parameter] = parts[key].rate
    if unknown := sorted(set(parts) - used):
        top = sorted({name.partition(".")[0] for name, _ in _renamed(recogniser, recogniser.named_parameters())})
        near = get_close_matches(unknown[0], [*top, *names], n=1)
        raise OccframeError(
            f"no weight belongs to the part `{unknown[0]}`",
            remedy=f"did you mean `{near[0]}`?" if near else f"parts begin with: {', '.join(top)}",
        )
    for name, module in names.items():
        key = _part_of(name, parts)
        part = parts[key] if key is not None else None
        if part and (part.rate == 0 or (part.statistics == "keep" and isinstance(module, _BatchNorm))):
            recogniser.resting.append(module)
    return factors


def _renamed(recogniser: Recogniser, items: Iterable[tuple[str, T]]) -> Iterable[tuple[str, T]]:
    for name, item in items:
        head, _, rest = name.partition(".")
        if head == "backbone" and rest:
            yield rest, item
        elif head == "terms" and rest:
            number, _, inner = rest.partition(".")
            yield f"losses.{recogniser.names[int(number)]}.{inner}".rstrip("."), item


def _part_of(name: str, parts: Mapping[str, Part]) -> str | None:
    fitting = [key for key in parts if name == key or name.startswith(f"{key}.")]
    if not fitting and "backbone" in parts and not name.startswith("losses."):
        return "backbone"
    return max(fitting, key=len, default=None)
