"""Which matcher for how many faces: what every matcher offers, held against memory and the recall that is wanted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from occframe.errors import OccframeError, PluginError
from occframe.gallery.offers import Offer
from occframe.machine import usable_cores
from occframe.plugins import PluginRegistry

#: An exact index is chosen while a query takes no longer: nothing is trained, nothing missed, deleting costs nothing.
EXACT_MS = 30.0

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True)
class Choice:
    """An offer of the matcher ``use``. against: why it is not the one, None for the one that is."""

    use: str
    offer: Offer
    against: str | None

    @property
    def block(self) -> dict[str, Any]:
        return {"use": self.use, **self.offer.options}


@dataclass(frozen=True)
class Plan:
    """chosen: the fastest that fits, or an exact one that is fast enough; None where none fits. others: best first."""

    chosen: Choice | None
    others: Sequence[Choice]


def plan(
    registry: PluginRegistry,
    count: int,
    dim: int,
    *,
    memory: int | None,
    recall: float,
    gpu: int | None = None,
    cores: int | None = None,
) -> Plan:
    """count: embeddings; dim: their length. memory: bytes of the host, None for any. gpu: of each GPU, None for none.

    recall: the least expected share of the true nearest ten that is found, 1 for exact.
    """
    choices = []
    for use, offer in _offers(registry, count, dim, cores or usable_cores(), gpu):
        against = _against(offer, memory=memory, recall=recall, gpu=gpu)
        choices.append(Choice(use, offer, against))
    fitting = sorted((item for item in choices if item.against is None), key=_preference)
    rest = [Choice(item.use, item.offer, "fits") for item in fitting[1:]]
    failing = sorted((item for item in choices if item.against), key=lambda item: -item.offer.recall)
    return Plan(fitting[0] if fitting else None, [*rest, *failing])


def _preference(choice: Choice) -> tuple[bool, float, int]:
    offer = choice.offer
    exact_enough = offer.recall == 1 and offer.latency_ms <= EXACT_MS
    return not exact_enough, round(offer.latency_ms, 2), offer.memory


def _offers(registry: PluginRegistry, count: int, dim: int, cores: int, gpu: int | None) -> list[tuple[str, Offer]]:
    found = []
    for component in registry.components("matcher"):
        if "plan" not in component.caps:  # known without importing it
            continue
        try:
            factory: Any = component.load_factory()
        except PluginError as error:  # a broken matcher is no reason not to plan with the others
            warnings.warn(error.message, RuntimeWarning, stacklevel=2)
            continue
        found += [(component.name, offer) for offer in factory.offers(count, dim, cores, gpu)]
    if not found:
        raise OccframeError(
            "no matcher says what it costs", remedy="`occframe plugins` lists what is installed; occframe_faiss does"
        )
    return found


def _against(offer: Offer, *, memory: int | None, recall: float, gpu: int | None) -> str | None:
    if offer.recall < recall:
        return f"recall {offer.recall:.3f}"
    if memory is not None and offer.memory > memory:
        return f"needs {as_bytes(offer.memory)}"
    if gpu is not None and offer.gpu_memory > gpu:
        return f"needs {as_bytes(offer.gpu_memory)} on the GPU"
    return None


def parse_bytes(text: str) -> int:
    """``24GiB``, ``800 MB`` or a number of bytes. Raises OccframeError."""
    digits = text.strip().rstrip("BbKkMmGgTtIi ")
    unit = text.strip()[len(digits) :].strip().upper()
    try:
        return int(float(digits) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise OccframeError(f"`{text}` is no amount of memory", remedy="write 24GiB, 800MB or a number") from None


def as_bytes(size: int) -> str:
    """``10.2 GiB``."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= 0.9 * factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 2**10:,.0f} KiB"


def as_json(choice: Choice) -> Mapping[str, Any]:
    offer = choice.offer
    return {
        "matcher": choice.block,
        "memory_bytes": offer.memory,
        "gpu_memory_bytes": offer.gpu_memory,
        "build_seconds": round(offer.build_seconds, 1),
        "expected_recall": round(offer.recall, 4),
        "latency_ms": round(offer.latency_ms, 3),
        "queries_per_s": round(offer.queries_per_s, 1),
        "why": offer.why,
        "against": choice.against,
    }
