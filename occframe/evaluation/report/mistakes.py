"""The worst mistakes of an evaluation, with the pictures of both faces where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from occframe.evaluation.figures import signed
from occframe.evaluation.report.page import MistakeGroup, MistakePair
from occframe.evaluation.report.pictures import Picture
from occframe.types import Mistake, ProtocolResult

_MISTAKE_PAIRS = 72  # in the whole report: with two pictures each they are most of its size
_EXPLANATIONS = {
    "false reject": ("Rejected, though the same person", "The same person's pictures with the lowest scores."),
    "false accept": ("Taken for one person, though two", "Different people's pictures with the highest scores."),
}

#: By what the title of a group calls them, and condition.
Results = Mapping[tuple[str, str], ProtocolResult]
#: A face of a mistake: condition, which of the two, id.
Face: TypeAlias = tuple[str, Literal["reference", "probe"], str]


def faces_in(mistake: Mistake, condition: str) -> tuple[Face, Face]:
    return (condition, "reference", mistake.reference_id), (condition, "probe", mistake.probe_id)


def shown_mistakes(results: Results) -> Iterator[tuple[str, str, str, Sequence[Mistake]]]:
    """(name, condition, kind, mistakes), worst first and as many as there is room for in the report."""
    groups = [
        (name, condition, kind, [mistake for mistake in result.mistakes if mistake.kind == kind])
        for (name, condition), result in results.items()
        for kind in _EXPLANATIONS
    ]
    groups = [group for group in groups if group[3]]
    room = max(1, _MISTAKE_PAIRS // max(1, len(groups)))
    for name, condition, kind, mistakes in groups:
        yield name, condition, kind, mistakes[: min(8, room)]


def mistake_groups(results: Results, pictures: Mapping[str, Mapping[Face, Picture]]) -> list[MistakeGroup]:
    """pictures: by the names of ``results``."""
    return [
        MistakeGroup(
            title=f"{_EXPLANATIONS[kind][0]} ({name}, {condition})",
            explanation=_explanation(kind, results[name, condition]),
            pairs=[
                MistakePair(
                    mistake.reference_id,
                    mistake.probe_id,
                    signed(f"{mistake.score:.3f}"),
                    *(pictures.get(name, {}).get(face) for face in faces_in(mistake, condition)),
                )
                for mistake in mistakes
            ],
        )
        for name, condition, kind, mistakes in shown_mistakes(results)
    ]


def _explanation(kind: str, result: ProtocolResult) -> str:
    threshold = result.metrics.get("threshold@eer")
    limit = f" The threshold of equal errors is {signed(f'{threshold:.3f}')}." if threshold is not None else ""
    return f"{_EXPLANATIONS[kind][1]} Reference left, probe right, cosine above their ids.{limit}"
