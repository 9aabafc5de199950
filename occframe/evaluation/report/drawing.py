"""Lines on axes as Bokeh plots. All colours but those of the lines come from CSS: one plot serves light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d, Scatter, Step, VArea, VAreaStep
from bokeh.models import Line as Curved
from bokeh.models.annotations import BoxAnnotation
from bokeh.models.annotations import Span as Rule
from bokeh.plotting import figure

#: Lower and upper end: of a range, or arrays of them.
Span = tuple[Any, Any]

_MARKED = 25  # points of a line that are few enough to be marked one by one
_SUPPORTED = "#2f7ed8"


@dataclass(frozen=True)
class Axes:
    """position: how a tooltip writes x (printf). rate: y is a share, shown in per cent. start, end: of x.

    from_zero: y begins there. supported: the part of x about which the data says something.
    """

    x: str
    y: str
    position: str = "%.3g"
    log_x: bool = False
    log_y: bool = False
    rate: bool = False
    from_zero: bool = False
    start: float | None = None
    end: float | None = None
    supported: Span | None = None


@dataclass(frozen=True)
class Line:
    """x, y: arrays [n]. span: arrays [n] below and above it. stepped: from each x on y holds, to the next."""

    x: np.ndarray
    y: np.ndarray
    span: Span | None = None
    dashed: bool = False
    stepped: bool = False
    filled: bool = False


def draw(axes: Axes, lines: Mapping[str, Line], colours: Mapping[str, str]) -> Mapping[str, Any]:
    """What ``Bokeh.embed.embed_item`` draws. colours: by line."""
    plot = _empty(axes, lines)
    x = [line.x for line in lines.values()]
    shared = all(np.array_equal(x[0], other) for other in x)
    columns = {key: value for place, line in enumerate(lines.values()) for key, value in _columns(place, line).items()}
    together = ColumnDataSource({"x": _thin(x[0])} | columns) if shared else None
    value = "{0.00%}" if axes.rate else "{0.000}"
    for place, (name, line) in enumerate(lines.items()):
        source = together or ColumnDataSource({"x": _thin(line.x)} | _columns(place, line))
        drawn = _line(plot, line, str(place), source, colours[name])
        if place == 0 or not shared:
            shown = [(other, f"@y{number}{value}") for number, other in enumerate(lines) if shared or other == name]
            plot.add_tools(
                HoverTool(
                    renderers=[drawn],
                    mode="vline",
                    line_policy="prev" if line.stepped else "nearest",
                    tooltips=[(axes.x, f"@x{{{axes.position}}}"), *shown],
                    formatters={"@x": "printf"},
                    attachment="horizontal",
                    visible=False,  # no button: there is nothing to switch
                )
            )
    return json_item(plot)


def _columns(place: int, line: Line) -> dict[str, np.ndarray]:
    ends = {} if line.span is None else {f"low{place}": _thin(line.span[0]), f"high{place}": _thin(line.span[1])}
    return {f"y{place}": _thin(line.y)} | ends


def _line(plot: Any, line: Line, place: str, source: ColumnDataSource, colour: str) -> Any:
    """Returns what tells where the mouse is."""
    # Glyphs, not the methods of a figure: those make three more of each, for selections that a report has not.
    y, dash = f"y{place}", [6, 4] if line.dashed else []
    if line.stepped:
        if line.filled:
            plot.add_glyph(source, VAreaStep(x="x", y1=0, y2=y, step_mode="after", fill_color=colour, fill_alpha=0.16))
        plot.add_glyph(source, Step(x="x", y=y, mode="after", line_color=colour, line_width=2, line_dash=dash))
        # A step does not notice the mouse; an unseen line through its corners does.
        return plot.add_glyph(source, Curved(x="x", y=y, line_alpha=0))
    if line.span is not None:
        band = VArea(x="x", y1=f"low{place}", y2=f"high{place}", fill_color=colour, fill_alpha=0.14)
        plot.add_glyph(source, band)
    if len(line.x) <= _MARKED:
        plot.add_glyph(source, Scatter(x="x", y=y, size=6, fill_color=colour, line_color=colour))
    return plot.add_glyph(source, Curved(x="x", y=y, line_color=colour, line_width=2.5, line_dash=dash))


def _thin(values: Any) -> np.ndarray:
    """Half the bytes in the page, seven digits."""
    return np.asarray(values, np.float32)


def _empty(axes: Axes, lines: Mapping[str, Line]) -> Any:
    plot = figure(
        height=300,
        sizing_mode="stretch_width",
        x_axis_type="log" if axes.log_x else "linear",
        y_axis_type="log" if axes.log_y else "linear",
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
    if axes.rate and not axes.log_y:
        plot.yaxis.formatter = NumeralTickFormatter(format="0.[0]%")
    if axes.start is not None:
        plot.x_range = Range1d(start=axes.start, end=axes.end or max(line.x.max() for line in lines.values()))
    heights = _range(axes, lines)
    if heights is not None:
        plot.y_range = heights
    if axes.supported is not None:
        low, high = axes.supported
        plot.add_layout(
            BoxAnnotation(
                left=low, right=high, fill_color=_SUPPORTED, fill_alpha=0.06, line_color=None, level="underlay"
            )
        )
        plot.add_layout(
            Rule(location=low, dimension="height", line_color=_SUPPORTED, line_alpha=0.6, line_dash="dotted")
        )
    return plot


def _range(axes: Axes, lines: Mapping[str, Line]) -> Range1d | None:
    """Of y. None: as it comes."""
    everything = [part for line in lines.values() for part in (line.y, *(line.span or ()))]
    values = np.concatenate([np.asarray(part, float).ravel() for part in everything])
    values = values[np.isfinite(values)]
    if axes.log_y:
        lowest = float(values[values > 0].min(initial=1.0))
        return Range1d(start=lowest / 1.5, end=max(1.15, float(values.max(initial=0.0)) * 1.15))
    if axes.from_zero:
        return Range1d(start=0.0, end=1.08 * float(values.max(initial=0.0)) or 1.0)
    if not axes.rate:
        return None
    bottom = max(0.0, np.floor(float(values.min(initial=1.0)) * 10 - 0.5) / 10)
    # A little room above 100 %, or half of a line along it is cut off.
    return Range1d(start=bottom, end=1.0 + 0.02 * (1.0 - bottom))
