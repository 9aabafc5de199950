"""Curves as Bokeh charts. All colours but those of the lines come from CSS: one chart serves light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from bokeh.resources import Resources

from occframe.types import Curve

#: One a condition, in their order. Each stands out (3:1 or more) on white as well as on the dark background.
COLOURS = ("#2f7ed8", "#d9702b", "#2f9e6e", "#a065cf", "#c2558a", "#8a8520")

_POINTS = 300
_MARKED = 25  # points of a line that are few enough to be marked one by one


@dataclass(frozen=True)
class Chart:
    """item: what ``Bokeh.embed.embed_item`` draws. summary: the chart in words, for whoever cannot see it."""

    id: str
    title: str
    names: Sequence[str]
    summary: str
    item: Mapping[str, Any]


@dataclass(frozen=True)
class _Axes:
    """position: how a tooltip writes x (printf). rate: y is a share, shown in per cent."""

    title: str
    x: str
    y: str
    position: str = "%.3g"
    log_x: bool = False
    rate: bool = False


_AXES = {
    "ROC": _Axes("ROC", "false accept rate", "true accept rate", "%.1e", log_x=True, rate=True),
    "CMC": _Axes("CMC", "rank", "probes found", "%d", rate=True),
}


def library() -> str:
    """The script that draws the charts, to be inlined."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def protocol_chart(id_: str, protocol: str, chart: str, curves: Mapping[str, Curve]) -> Chart:
    """One line a condition. chart: "ROC", "CMC", or a name of the protocol's own, drawn on linear axes."""
    axes = _AXES.get(chart, _Axes(chart, "x", "y"))
    lines = {name: (np.asarray(curve.x, float), np.asarray(curve.y, float)) for name, curve in curves.items()}
    if axes.log_x:
        lines = _on_log_grid(lines)
    return _chart(id_, f"{axes.title}, {protocol}", axes, lines)


def sweep_chart(id_: str, title: str, axis: str, figure: str, curves: Mapping[str, Curve], *, rate: bool) -> Chart:
    """A figure over what is swept, one line a system or sweep. rate: the figure is a share."""
    lines = {name: (np.asarray(curve.x, float), np.asarray(curve.y, float)) for name, curve in curves.items()}
    return _chart(id_, title, _Axes(title, axis, figure, rate=rate), lines)


def loss_chart(id_: str, model: str, losses: Mapping[str, Curve]) -> Chart:
    """Losses of a training over its optimiser steps."""
    lines = {name: (curve.x, curve.y) for name, curve in losses.items()}
    axes = _Axes("Training loss", "optimiser step", "loss", "%d")
    return _chart(id_, f"{axes.title}, {model}", axes, lines)


def _chart(id_: str, title: str, axes: _Axes, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Chart:
    digits = ".1%" if axes.rate else ".3g"
    ends = "; ".join(
        f"{name} from {y[0]:{digits}} at {x[0]:.3g} to {y[-1]:{digits}} at {x[-1]:.3g}"
        for name, (x, y) in lines.items()
    )
    return Chart(id_, title, list(lines), f"{axes.y} over {axes.x}: {ends}", _draw(axes, lines))


def _on_log_grid(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All curves at the same false accept rates, from the smallest that any of them reaches: a step curve, read as
    the highest value at no more than that rate."""
    smallest = min(float(x[x > 0].min()) for x, _ in lines.values())
    grid = np.unique(np.concatenate([np.geomspace(smallest, 1.0, _POINTS), [1.0]]))
    grid[0] = smallest
    return {name: (grid, y[np.searchsorted(x, grid, side="right") - 1]) for name, (x, y) in lines.items()}


def _draw(axes: _Axes, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Mapping[str, Any]:
    plot = figure(
        height=300,
        sizing_mode="stretch_width",
        x_axis_type="log" if axes.log_x else "linear",
        x_axis_label=axes.x,
        y_axis_label=axes.y,
        tools="box_zoom,reset,save",
        min_border_left=48,
        output_backend="canvas",
    )
    plot.toolbar.autohide = True
    plot.toolbar.logo = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = plot.axis.major_label_text_font_size = "12px"
    plot.axis.minor_tick_line_color = None
    plot.axis.major_tick_in = 0
    if axes.rate:
        plot.yaxis.formatter = NumeralTickFormatter(format="0%")
        lowest = min(float(y.min()) for _, y in lines.values())
        bottom = max(0.0, np.floor(lowest * 10 - 0.5) / 10)
        # A little room above 100 %, or half of a line along it is cut off.
        plot.y_range = Range1d(start=bottom, end=1.0 + 0.02 * (1.0 - bottom))
    value = "{0.00%}" if axes.rate else "{0.000}"
    steps = [x for x, _ in lines.values()]
    shared = all(np.array_equal(steps[0], x) for x in steps)
    columns = {f"y{number}": y for number, (_, y) in enumerate(lines.values())}
    for number, (name, (x, y)) in enumerate(lines.items()):
        source = ColumnDataSource({"x": x} | (columns if shared else {f"y{number}": y}))
        line = plot.line("x", f"y{number}", source=source, line_width=2.5, color=COLOURS[number % len(COLOURS)])
        if len(x) <= _MARKED:
            plot.scatter("x", f"y{number}", source=source, size=6, color=COLOURS[number % len(COLOURS)])
        if number == 0 or not shared:
            shown = [(other, f"@y{place}{value}") for place, other in enumerate(lines) if shared or other == name]
            plot.add_tools(
                HoverTool(
                    renderers=[line],
                    mode="vline",
                    tooltips=[(axes.x, f"@x{{{axes.position}}}"), *shown],
                    formatters={"@x": "printf"},
                    attachment="horizontal",
                    visible=False,  # no button: there is nothing to switch
                )
            )
    return json_item(plot)
