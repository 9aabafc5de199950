"""From results to what the page shows of them: headline cards, tables and charts. The lines of a table or chart are the
conditions of one evaluation, or the systems of a suite under one condition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from occframe.evaluation.figures import (
    bar_length,
    headline_names,
    interval_text,
    is_share,
    is_threshold,
    lower_is_better,
    sentence,
    signed,
    title,
    value_text,
)
from occframe.evaluation.report.charts import Chart, det_chart, histogram_chart, protocol_chart, sweep_chart
from occframe.evaluation.report.page import Bar, Card, Cell, Row, Table
from occframe.evaluation.results import Evaluation, Sweep
from occframe.types import Curve, ProtocolResult

#: Results of one protocol by condition, or by system.
ByLine = Mapping[str, ProtocolResult]

_SIDE_BY_SIDE = 3  # lines that a table shows as columns; more become its rows


def main_conditions(evaluation: Evaluation) -> list[str]:
    """Those that stand for themselves, without the points of sweeps; all of them where there is nothing else."""
    swept = {condition for sweep in evaluation.sweeps for _, condition in sweep.points}
    return [condition for condition in evaluation.probes if condition not in swept] or list(evaluation.probes)


def main_results(evaluation: Evaluation) -> dict[str, ByLine]:
    """By protocol, under the main conditions."""
    chosen = main_conditions(evaluation)
    return {protocol: {name: of[name] for name in chosen} for protocol, of in evaluation.results.items()}


def cards(results: Mapping[str, ByLine]) -> list[Card]:
    """The first two figures of each protocol."""
    return [_card(protocol, of, name) for protocol, of in results.items() for name in headlines(of, 2)]


def tables(results: Mapping[str, ByLine], what: str = "condition") -> list[Table]:
    """One a protocol, thresholds last. Few lines stand side by side, each but the first with its difference; many are
    the rows. what: a line is."""
    return [
        side_by_side_table(protocol, of) if len(of) <= _SIDE_BY_SIDE else ranking(protocol, of, what)
        for protocol, of in results.items()
    ]


def sweep_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Main figures at every point of a sweep."""
    for sweep in evaluation.sweeps:
        for protocol, of in evaluation.results.items():
            names = headlines(of, 4)
            rows = [
                Row(f"{value:g}", [cell(of[condition], name) for name in names], minor=False)
                for value, condition in sweep.points
            ]
            caption = f"{sentence(protocol)} over {_axis(sweep)}, {sweep.name}"
            yield Table(caption, [title(name) for name in names], rows, first=sweep.axis)


def matrix(caption: str, figure: str, of: Mapping[str, ByLine], what: str, notes: Sequence[str] = ()) -> Table:
    """One figure of many lines (rows) under many conditions (columns), the best of each column marked."""
    lines = list(dict.fromkeys(line for by_line in of.values() for line in by_line))
    better = min if lower_is_better(figure) else max
    best: dict[str, float | None] = {}
    for condition, by_line in of.items():
        values = [result.metrics[figure] for result in by_line.values() if figure in result.metrics]
        best[condition] = better(values) if len(set(values)) > 1 else None
    rows = []
    for line in lines:
        cells = []
        for condition, by_line in of.items():
            found = by_line.get(line)
            value = found.metrics.get(figure) if found else None
            mark = "best" if value is not None and value == best[condition] else ""
            cells.append(cell(found, figure, mark) if found else Cell("–"))
        rows.append(Row(line, cells, minor=False))
    return Table(caption, list(of), rows, notes, first=what)


def group_tables(results: Mapping[str, ByLine]) -> Iterator[Table]:
    """Figures of parts of the trials, by what is known of their faces: one table a protocol, attribute and figure."""
    for protocol, of in results.items():
        columns = dict.fromkeys(group.column for result in of.values() for group in result.groups)
        for column in columns:
            parts = {line: [g for g in result.groups if g.column == column] for line, result in of.items()}
            known = dict.fromkeys(name for groups in parts.values() for group in groups for name in group.metrics)
            labels = dict.fromkeys(group.label for groups in parts.values() for group in groups)
            for figure in list(known)[:2]:
                found = {line: {group.label: group for group in groups} for line, groups in parts.items()}
                rows = []
                for label in labels:
                    groups = [found[line].get(label) for line in of]
                    cells = [
                        Cell(value_text(g.metrics, figure), detail=_group_size(g.counts, figure)) if g else Cell("–")
                        for g in groups
                    ]
                    if any(g is not None and any(g.counts.values()) for g in groups):
                        rows.append(Row(label.replace("..", " to "), cells, minor=False))
                caption = f"{sentence(protocol)}: {_group_title(figure)} by {column.replace('_', ' ')}"
                yield Table(caption, list(of), rows, first=column.replace("_", " "))


def charts(results: Mapping[str, ByLine], colours: Mapping[str, str], prefix: str = "chart") -> Iterator[Chart]:
    """prefix: of their ids, which must be the page's only ones."""
    for number, (protocol, of) in enumerate(results.items()):
        histograms = dict.fromkeys(name for result in of.values() for name in result.histograms)
        for place, name in enumerate(histograms):
            shown = {line: result.histograms[name] for line, result in of.items() if name in result.histograms}
            yield histogram_chart(f"{prefix}-{number}-h{place}", protocol, shown, colours)
        names = dict.fromkeys(chart for result in of.values() for chart in result.curves)
        for place, chart in enumerate(names):
            curves = {line: result.curves[chart] for line, result in of.items() if chart in result.curves}
            yield protocol_chart(f"{prefix}-{number}-{place}", protocol, chart, curves, colours)
            if chart == "ROC":
                yield det_chart(f"{prefix}-{number}-det", protocol, curves, colours)


def sweep_charts(evaluation: Evaluation) -> Iterator[Chart]:
    """How the first two figures of each protocol fall: a chart a figure and axis, a line a sweep."""
    axes = list(dict.fromkeys((sweep.axis, sweep.side) for sweep in evaluation.sweeps))
    for number, (protocol, of) in enumerate(evaluation.results.items()):
        for place, figure in enumerate(headlines(of, 2)):
            for turn, (axis, side) in enumerate(axes):
                sweeps = [sweep for sweep in evaluation.sweeps if (sweep.axis, sweep.side) == (axis, side)]
                curves = {
                    sweep.name: curve
                    for sweep in sweeps
                    if (curve := evaluation.sweep_curves(protocol, figure).get(sweep.name)) is not None
                }
                points = {sweep.name: [of[condition] for _, condition in sweep.points] for sweep in sweeps}
                if curves:
                    yield swept(
                        f"sweep-{number}-{place}-{turn}",
                        f"{title(figure)} over {_axis(sweeps[0])}, {protocol}",
                        axis,
                        figure,
                        curves,
                        points,
                    )


def swept(
    id_: str,
    heading: str,
    axis: str,
    figure: str,
    curves: Mapping[str, Curve],
    points: Mapping[str, Sequence[ProtocolResult]],
    colours: Mapping[str, str] | None = None,
) -> Chart:
    """A chart of ``curves``, with the confidence intervals of ``points`` where every point has one."""
    spans = {}
    for name, results in points.items():
        found = [result.intervals.get(figure) for result in results if figure in result.metrics]
        if name in curves and found and all(item is not None for item in found):
            spans[name] = (
                np.array([item.low for item in found if item]),
                np.array([item.high for item in found if item]),
            )
    return sweep_chart(id_, heading, axis, title(figure), curves, rate=is_share(figure), spans=spans, colours=colours)


def plain_id(text: str) -> str:
    """As part of an id in the page."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def headlines(of: ByLine, count: int) -> list[str]:
    return headline_names({name: 0.0 for result in of.values() for name in result.metrics}, count)


def cell(result: ProtocolResult, name: str, verdict: str = "") -> Cell:
    """A figure with its confidence interval."""
    return Cell(value_text(result.metrics, name), verdict, _interval(result, name))


def _interval(result: ProtocolResult, name: str) -> str:
    found = result.intervals.get(name)
    return interval_text(name, found.low, found.high) if found is not None and name in result.metrics else ""


def _axis(sweep: Sweep) -> str:
    return sweep.axis if sweep.side == "probe" else f"{sweep.axis} ({sweep.side})"


def _group_title(figure: str) -> str:
    # far@far=1e-3 is what part of the group's impostors is accepted where 1e-3 of all are.
    return f"FAR at the threshold of FAR {figure[8:]}" if figure.startswith("far@far=") else title(figure)


def _group_size(counts: Mapping[str, int], figure: str) -> str:
    kinds = list(counts)
    kind = "impostor pairs" if figure.startswith("far@") and "impostor pairs" in kinds else next(iter(kinds), "")
    return f"{counts[kind]:,} {kind}" if kind else ""


def _card(protocol: str, of: ByLine, name: str) -> Card:
    bars = [
        Bar(line, bar_length(name, result.metrics[name]), _single(result, name), _interval(result, name))
        for line, result in of.items()
        if name in result.metrics
    ]
    first, *others = of.items()
    differences = [
        f"{line} {_points(result.metrics[name] - first[1].metrics[name])} points"
        for line, result in others
        if name in result.metrics and name in first[1].metrics and is_share(name)
    ]
    return Card(sentence(title(name)), protocol, bars, "; ".join(differences))


def _single(result: ProtocolResult, name: str) -> str:
    return value_text({name: result.metrics[name]}, name)


def side_by_side_table(protocol: str, of: ByLine) -> Table:
    names = _figures_of(of)
    baseline, *others = of
    columns = [baseline, *(column for line in others for column in (line, "difference, points"))]
    rows = []
    for name in names:
        cells = [cell(of[baseline], name)]
        for line in others:
            cells += [cell(of[line], name), _difference(of[baseline], of[line], name)]
        rows.append(Row(sentence(title(name)), cells, minor=is_threshold(name)))
    return Table(sentence(protocol), columns, rows, _notes(of))


def ranking(protocol: str, of: ByLine, what: str) -> Table:
    """A line a row, for many of them; thresholds are left out."""
    names = [name for name in _figures_of(of) if not is_threshold(name)]
    rows = [Row(line, [cell(result, name) for name in names], minor=False) for line, result in of.items()]
    return Table(sentence(protocol), [sentence(title(name)) for name in names], rows, _notes(of), first=what)


def _figures_of(of: ByLine) -> list[str]:
    return list(dict.fromkeys(name for result in of.values() for name in result.metrics if not name.endswith("_std")))


def _notes(of: ByLine) -> list[str]:
    counts = {line: ", ".join(f"{n:,} {what}" for what, n in result.counts.items()) for line, result in of.items()}
    same = len(set(counts.values())) == 1
    notes = [next(iter(counts.values()))] if same else [f"{line}: {text}" for line, text in counts.items()]
    for line, result in of.items():
        for note in result.notes:
            everywhere = all(note in other.notes for other in of.values())
            notes.append(note if everywhere else f"{line}: {note}")
    levels = {f"{100 * item.level:g} %" for result in of.values() for item in result.intervals.values()}
    if levels:
        notes.append(f"In brackets: {', '.join(sorted(levels))} confidence intervals, bootstrapped over people.")
    return list(dict.fromkeys(note for note in notes if note))


def _difference(baseline: ProtocolResult, other: ProtocolResult, name: str) -> Cell:
    if name not in baseline.metrics or name not in other.metrics or not is_share(name):
        return Cell("")
    change = other.metrics[name] - baseline.metrics[name]
    verdict = "" if change == 0 else "worse" if (change > 0) == lower_is_better(name) else "better"
    return Cell(_points(change), verdict)


def _points(change: float) -> str:
    return signed(f"{100 * change:+.2f}")
