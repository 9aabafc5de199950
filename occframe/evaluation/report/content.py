"""From an evaluation to what the page shows of it: headline cards, tables, charts and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from occframe.evaluation.figures import (
    bar_length,
    headline_names,
    is_share,
    is_threshold,
    lower_is_better,
    sentence,
    signed,
    title,
    value_text,
)
from occframe.evaluation.report.charts import Chart, protocol_chart
from occframe.evaluation.report.page import Bar, Card, Cell, MistakeGroup, MistakePair, Row, Table
from occframe.evaluation.report.pictures import Picture
from occframe.evaluation.results import Evaluation
from occframe.types import Mistake, ProtocolResult

_MISTAKE_PAIRS = 72  # in the whole report: with two pictures each they are most of its size
_EXPLANATIONS = {
    "false reject": ("Rejected, though the same person", "The same person's pictures with the lowest scores."),
    "false accept": ("Taken for one person, though two", "Different people's pictures with the highest scores."),
}

ByCondition = Mapping[str, ProtocolResult]
#: The picture of an id, as the reference (condition None) or as a probe under a condition; None where there is none.
FindPicture = Callable[[str | None, str], Picture | None]


def cards(evaluation: Evaluation) -> list[Card]:
    """The first two figures of each protocol."""
    return [_card(protocol, of, name) for protocol, of in evaluation.results.items() for name in _headlines(of, 2)]


def tables(evaluation: Evaluation) -> list[Table]:
    """One a protocol, thresholds last; conditions side by side, each but the first with its difference."""
    return [_table(protocol, of) for protocol, of in evaluation.results.items()]


def charts(evaluation: Evaluation) -> list[Chart]:
    found = []
    for number, (protocol, of) in enumerate(evaluation.results.items()):
        names = dict.fromkeys(chart for result in of.values() for chart in result.curves)
        for place, chart in enumerate(names):
            curves = {condition: result.curves[chart] for condition, result in of.items() if chart in result.curves}
            found.append(protocol_chart(f"chart-{number}-{place}", protocol, chart, curves))
    return found


def shown_mistakes(evaluation: Evaluation) -> Iterator[tuple[str, str, str, Sequence[Mistake]]]:
    """(protocol, condition, kind, mistakes), worst first and as many as there is room for in the report."""
    groups = [
        (protocol, condition, kind, [mistake for mistake in result.mistakes if mistake.kind == kind])
        for protocol, of in evaluation.results.items()
        for condition, result in of.items()
        for kind in _EXPLANATIONS
    ]
    groups = [group for group in groups if group[3]]
    room = max(1, _MISTAKE_PAIRS // max(1, len(groups)))
    for protocol, condition, kind, mistakes in groups:
        yield protocol, condition, kind, mistakes[: min(8, room)]


def mistake_groups(evaluation: Evaluation, find: FindPicture) -> list[MistakeGroup]:
    return [
        MistakeGroup(
            title=f"{_EXPLANATIONS[kind][0]} ({protocol}, {condition})",
            explanation=_explanation(kind, evaluation.results[protocol][condition]),
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
        for protocol, condition, kind, mistakes in shown_mistakes(evaluation)
    ]


def _explanation(kind: str, result: ProtocolResult) -> str:
    threshold = result.metrics.get("threshold@eer")
    limit = f" The threshold of equal errors is {signed(f'{threshold:.3f}')}." if threshold is not None else ""
    return f"{_EXPLANATIONS[kind][1]} Reference left, probe right, cosine above their ids.{limit}"


def _headlines(of: ByCondition, count: int) -> list[str]:
    return headline_names({name: 0.0 for result in of.values() for name in result.metrics}, count)


def _card(protocol: str, of: ByCondition, name: str) -> Card:
    bars = [
        Bar(condition, bar_length(name, result.metrics[name]), value_text({name: result.metrics[name]}, name))
        for condition, result in of.items()
        if name in result.metrics
    ]
    first, *others = of.items()
    differences = [
        f"{condition} {_points(result.metrics[name] - first[1].metrics[name])} points"
        for condition, result in others
        if name in result.metrics and name in first[1].metrics and is_share(name)
    ]
    return Card(sentence(title(name)), protocol, bars, "; ".join(differences))


def _table(protocol: str, of: ByCondition) -> Table:
    names = list(dict.fromkeys(name for result in of.values() for name in result.metrics if not name.endswith("_std")))
    baseline, *others = of
    columns = [baseline, *(column for condition in others for column in (condition, "difference, points"))]
    rows = []
    for name in names:
        cells = [Cell(value_text(of[baseline].metrics, name))]
        for condition in others:
            cells += [Cell(value_text(of[condition].metrics, name)), _difference(of[baseline], of[condition], name)]
        rows.append(Row(sentence(title(name)), cells, minor=is_threshold(name)))
    counts = {
        condition: ", ".join(f"{n:,} {what}" for what, n in result.counts.items()) for condition, result in of.items()
    }
    same = len(set(counts.values())) == 1
    notes = [counts[baseline]] if same else [f"{condition}: {text}" for condition, text in counts.items()]
    for condition, result in of.items():
        for note in result.notes:
            everywhere = all(note in other.notes for other in of.values())
            notes.append(note if everywhere else f"{condition}: {note}")
    return Table(sentence(protocol), columns, rows, list(dict.fromkeys(note for note in notes if note)))


def _difference(baseline: ProtocolResult, other: ProtocolResult, name: str) -> Cell:
    if name not in baseline.metrics or name not in other.metrics or not is_share(name):
        return Cell("")
    change = other.metrics[name] - baseline.metrics[name]
    verdict = "" if change == 0 else "worse" if (change > 0) == lower_is_better(name) else "better"
    return Cell(_points(change), verdict)


def _points(change: float) -> str:
    return signed(f"{100 * change:+.2f}")
