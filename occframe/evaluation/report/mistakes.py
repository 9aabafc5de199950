"""The worst mistakes of an evaluation, with the pictures of both faces where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from occframe.evaluation.figures import signed
from occframe.evaluation.report.page import MistakeGroup, MistakePair
from occframe.evaluation.report.pictures import Picture
from occframe.types import Mistake, ProtocolResult

_MISTAKE_PAIRS = 72  # in the whole report: with two pictures each they are most of its size
_EXPLANATIONS = {
    "false reject": ("Rejected, though the same person", "The same person's pictures with the lowest scores."),
    "false accept": ("Taken for one person, though two", "Different people's pictures with the highest scores."),
}

#: By protocol and condition.
Results = Mapping[str, Mapping[str, ProtocolResult]]
#: The picture of an id, as the reference (condition None) or as a probe under a condition; None where there is none.
FindPicture = Callable[[str | None, str], Picture | None]


def shown_mistakes(results: Results) -> Iterator[tuple[str, str, str, Sequence[Mistake]]]:
    """(protocol, condition, kind, mistakes), worst first and as many as there is room for in the report."""
    groups = [
        (protocol, condition, kind, [mistake for mistake in result.mistakes if mistake.kind == kind])
        for protocol, of in results.items()
        for condition, result in of.items()
        for kind in _EXPLANATIONS
    ]
    groups = [group for group in groups if group[3]]
    room = max(1, _MISTAKE_PAIRS // max(1, len(groups)))
    for protocol, condition, kind, mistakes in groups:
        yield protocol, condition, kind, mistakes[: min(8, room)]


def mistake_groups(results: Results, find: FindPicture) -> list[MistakeGroup]:
    return [
        MistakeGroup(
            title=f"{_EXPLANATIONS[kind][0]} ({protocol}, {condition})",
            explanation=_explanation(kind, results[protocol][condition]),
            pairs=[
                MistakePair(
                    mistake.reference_id,
                    mistake.probe_id,
                    signed(f"{mistake.score:.3f}"),
                    find(None, mistake.reference_id),
                    find(condition, mistake.probe_id),
                )
                for mistake in mistakes
            ],
        )
        for protocol, condition, kind, mistakes in shown_mistakes(results)
    ]


def _explanation(kind: str, result: ProtocolResult) -> str:
    threshold = result.metrics.get("threshold@eer")
    limit = f" The threshold of equal errors is {signed(f'{threshold:.3f}')}." if threshold is not None else ""
    return f"{_EXPLANATIONS[kind][1]} Reference left, probe right, cosine above their ids.{limit}"
