"""The charts of a report: which there are, their axes, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from bokeh.resources import Resources

from occframe.evaluation.report.drawing import Axes, Line, Span, draw
from occframe.types import Curve, Histogram

#: In the order of conditions or systems. Each stands out (3:1 or more) on white as well as on the dark background.
COLOURS = (
    "#2f7ed8",
    "#d9702b",
    "#2f9e6e",
    "#a065cf",
    "#c2558a",
    "#8a8520",
    "#1793a5",
    "#d04848",
    "#7b838d",
    "#9a6a45",
)

_POINTS = 200
_FILLED = 4  # from so many histograms on, areas below them would hide one another
_BELOW = 3.0  # how far a log axis goes on beyond what the data supports, so that its end is seen
_LONG = 30.0  # an axis of counts that grow by more than this is logarithmic

_AXES = {
    "ROC": Axes("false accept rate", "true accept rate", "%.1e", log_x=True, rate=True),
    "DET": Axes("false accept rate", "false reject rate", "%.1e", log_x=True, log_y=True, rate=True),
    "DIR-FPIR": Axes(
        "false positive identification rate", "detection and identification rate", "%.1e", True, rate=True
    ),
    "CMC": Axes("rank", "probes found", "%d", rate=True),
    "rank-1 by distractors": Axes("people enrolled besides", "probes found at rank 1", "%d", rate=True),
}


@dataclass(frozen=True)
class Chart:
    """item: what ``Bokeh.embed.embed_item`` draws. summary: the chart in words, for whoever cannot see it.

    legend: names of the lines and their colours. note: how to read it, beside the legend.
    """

    id: str
    title: str
    legend: Sequence[tuple[str, str]]
    summary: str
    item: Mapping[str, Any]
    note: str = ""


def colours_of(names: Sequence[str]) -> dict[str, str]:
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def library() -> str:
    """The script that draws the charts, to be inlined."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def protocol_chart(
    id_: str, protocol: str, chart: str, curves: Mapping[str, Curve], colours: Mapping[str, str] | None = None
) -> Chart:
    """One line a condition. chart: "ROC", "CMC", …, or a name of the protocol's own, drawn on linear axes.

    colours: by condition, where the chart is one of several that share them.
    """
    axes = _AXES.get(chart, Axes("x", "y"))
    lines = {name: (np.asarray(curve.x, float), np.asarray(curve.y, float)) for name, curve in curves.items()}
    if chart == "rank-1 by distractors":
        ends = [end for x, _ in lines.values() for end in (x.min(), x.max())]
        axes = replace(axes, log_x=min(ends) > 0 and max(ends) > _LONG * min(ends))
    elif axes.log_x:
        lines = _on_log_grid(lines)
    supported = _supported(curves) if axes.log_x else None
    note = ""
    if supported is not None:
        axes = replace(axes, supported=supported, start=supported[0] / _BELOW)
        note = f"shaded: what the data supports, from {supported[0]:.1e}"
    return _chart(id_, _heading(chart, protocol), axes, {name: Line(*of) for name, of in lines.items()}, colours, note)


def det_chart(id_: str, protocol: str, roc: Mapping[str, Curve], colours: Mapping[str, str] | None = None) -> Chart:
    """What a ROC hides near 100 %: the false rejects that are left, on two log axes."""
    rejects = {name: replace(curve, name="DET", y=1 - np.asarray(curve.y, float)) for name, curve in roc.items()}
    return protocol_chart(id_, protocol, "DET", rejects, colours)


def histogram_chart(
    id_: str, protocol: str, histograms: Mapping[str, Histogram], colours: Mapping[str, str] | None = None
) -> Chart:
    """Scores of both kinds of pairs, one colour a condition; the first series (genuine, known) solid, the others
    dashed. Each adds up to 100 %, so that many impostors do not dwarf few genuine pairs."""
    colours = colours or colours_of(list(histograms))
    lines, words = {}, []
    for name, histogram in histograms.items():
        edges, shares = _shares(histogram)
        for place, (series, share) in enumerate(shares.items()):
            # The height after the last bin is zero: what a step begins it must end.
            heights = np.append(share, 0.0)
            lines[f"{name}, {series}"] = Line(
                edges, heights, dashed=place > 0, stepped=True, filled=len(histograms) < _FILLED
            )
            words.append(f"{name}, {series}: most at {edges[share.argmax()]:.2f}")
    shades = {f"{name}, {series}": colours[name] for name, of in histograms.items() for series in of.counts}
    low, high = min(line.x[0] for line in lines.values()), max(line.x[-1] for line in lines.values())
    axes = Axes("cosine", "share of pairs", "%.2f", rate=True, from_zero=True, start=low, end=high)
    kinds = list(next(iter(histograms.values())).counts)
    note = f"solid: {kinds[0]}" + "".join(f", dashed: {kind}" for kind in kinds[1:])
    legend = [(name, colours[name]) for name in histograms]
    return Chart(id_, f"Scores, {protocol}", legend, "; ".join(words), draw(axes, lines, shades), note)


def sweep_chart(
    id_: str,
    title: str,
    axis: str,
    figure: str,
    curves: Mapping[str, Curve],
    *,
    rate: bool,
    spans: Mapping[str, Span] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Chart:
    """A figure over what is swept, one line a system or sweep. rate: the figure is a share. spans: its confidence
    intervals, by line."""
    spans = spans or {}
    lines = {
        name: Line(np.asarray(curve.x, float), np.asarray(curve.y, float), span=spans.get(name))
        for name, curve in curves.items()
    }
    note = "bands: confidence intervals" if spans else ""
    return _chart(id_, title, Axes(axis, figure, rate=rate), lines, colours, note)


def loss_chart(id_: str, model: str, losses: Mapping[str, Curve]) -> Chart:
    """Losses of a training over its optimiser steps."""
    lines = {name: Line(np.asarray(curve.x), np.asarray(curve.y)) for name, curve in losses.items()}
    return _chart(id_, f"Training loss, {model}", Axes("optimiser step", "loss", "%d"), lines, None, "")


def _heading(chart: str, protocol: str) -> str:
    return f"{chart[:1].upper()}{chart[1:]}, {protocol}"


def _chart(
    id_: str, title: str, axes: Axes, lines: Mapping[str, Line], colours: Mapping[str, str] | None, note: str
) -> Chart:
    colours = colours or colours_of(list(lines))
    digits = ".1%" if axes.rate else ".3g"
    ends = "; ".join(
        f"{name} from {line.y[0]:{digits}} at {line.x[0]:.3g} to {line.y[-1]:{digits}} at {line.x[-1]:.3g}"
        for name, line in lines.items()
    )
    legend = [(name, colours[name]) for name in lines]
    return Chart(id_, title, legend, f"{axes.y} over {axes.x}: {ends}", draw(axes, lines, colours), note)


def _supported(curves: Mapping[str, Curve]) -> Span | None:
    """Where all of them are supported. None: nowhere is said that they are not."""
    limits = [curve.supported for curve in curves.values() if curve.supported is not None]
    return (max(low for low, _ in limits), min(high for _, high in limits)) if limits else None


def _on_log_grid(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All curves at the same rates, from the smallest that any of them reaches: a step curve, read as its value at no
    more than that rate. NaN where a curve has not begun."""
    smallest = min(float(x[x > 0].min(initial=1.0)) for x, _ in lines.values())
    grid = np.unique(np.concatenate([np.geomspace(smallest, 1.0, _POINTS), [1.0]]))
    grid[0] = smallest
    found = {}
    for name, (x, y) in lines.items():
        place = np.searchsorted(x, grid, side="right") - 1
        found[name] = (grid, np.where(place >= 0, y[place], np.nan))
    return found


def _shares(histogram: Histogram) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Edges [B + 1] without the empty ends, and shares [B] by series; in wider bins where pairs are few."""
    counts = {series: np.asarray(of) for series, of in histogram.counts.items()}
    fewest = min(int(of.sum()) for of in counts.values())
    wide = next(factor for factor, enough in ((1, 50_000), (2, 1000), (5, 0)) if fewest >= enough)
    wide = wide if (len(histogram.edges) - 1) % wide == 0 else 1
    edges = np.asarray(histogram.edges, float)[::wide]
    counts = {series: of.reshape(-1, wide).sum(axis=1) for series, of in counts.items()}
    used = np.flatnonzero(sum(counts.values()))
    first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, len(edges) - 1)
    kept = {series: of[first:last] / max(1, of.sum()) for series, of in counts.items()}
    return edges[first : last + 1], kept
