"""Two systems side by side: the same trials, the same people, how sure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from occframe.bench.results import cells
from occframe.errors import OccframeError
from occframe.evaluation.significance import Comparison, compare_results
from occframe.types import ProtocolResult


@dataclass(frozen=True)
class Compared:
    trial: str
    condition: str
    found: Comparison


def compare(
    first: Mapping[str, Any], first_system: str, second: Mapping[str, Any], second_system: str
) -> Iterator[Compared]:
    """Every trial and condition that both systems have. Raises OccframeError: an unknown system, or none in common."""
    for result, system in ((first, first_system), (second, second_system)):
        known = list(dict.fromkeys(row["system"] for row in result["rows"]))
        if system not in known:
            raise OccframeError(f"the result has no system `{system}`", remedy=f"there are: {', '.join(known)}")
    ours, theirs = _by_condition(first, first_system), _by_condition(second, second_system)
    both = [key for key in ours if key in theirs]
    if not both:
        raise OccframeError(
            "the two have no trial and condition in common", remedy="compare results of one suite, or of suites alike"
        )
    for key in both:
        yield Compared(*key, compare_results(ours[key], theirs[key]))


def _by_condition(result: Mapping[str, Any], system: str) -> dict[tuple[str, str], ProtocolResult]:
    return {(row["trial"], row["condition"]): of for row, of in cells(result, system=system, trials=True)}
