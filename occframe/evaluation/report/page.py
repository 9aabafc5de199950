"""What the report shows, and the page that shows it. Ids, notes and configuration are text of strangers: the template
escapes everything, and the page's own content policy lets no script run but the ones put in here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from occframe.evaluation.report.charts import Chart, colours_of, library
from occframe.evaluation.report.pictures import OccludedSample, Picture


@dataclass(frozen=True)
class Bar:
    """share: 0..1, the length of the bar. detail: its confidence interval."""

    line: str
    share: float
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Card:
    """A headline figure. difference: of the last condition to the first, "" where there is only one."""

    title: str
    protocol: str
    bars: Sequence[Bar]
    difference: str


@dataclass(frozen=True)
class Cell:
    """verdict: "better", "worse", "best" or "" for a value that is not compared. detail: in small print below."""

    text: str
    verdict: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Row:
    heading: str
    cells: Sequence[Cell]
    minor: bool


@dataclass(frozen=True)
class Table:
    """columns: headings after the first. first: what the rows are."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    first: str = "figure"


@dataclass(frozen=True)
class Fold:
    """A part of the page that is closed at first."""

    title: str
    tables: Sequence[Table]
    charts: Sequence[Chart]


@dataclass(frozen=True)
class MistakePair:
    """Pictures are None where there are none to show."""

    reference_id: str
    probe_id: str
    score: str
    reference: Picture | None
    probe: Picture | None


@dataclass(frozen=True)
class MistakeGroup:
    title: str
    explanation: str
    pairs: Sequence[MistakePair]


@dataclass(frozen=True)
class ContactSheet:
    condition: str
    caption: str
    samples: Sequence[OccludedSample]


@dataclass(frozen=True)
class Report:
    """facts, environment: terms and their values. lines: conditions or systems, in the order of their colours.
    configuration: YAML."""

    title: str
    facts: Sequence[tuple[str, str]]
    lines: Sequence[str]
    cards: Sequence[Card]
    tables: Sequence[Table]
    charts: Sequence[Chart]
    sheets: Sequence[ContactSheet]
    mistakes: Sequence[MistakeGroup]
    notes: Sequence[str]
    configuration: str
    environment: Sequence[tuple[str, str]]
    folds: Sequence[Fold] = ()


def render(report: Report) -> str:
    """The whole page. Loads nothing from anywhere; scripts are allowed by their hashes alone."""
    environment = Environment(
        loader=PackageLoader("occframe.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts = [*report.charts, *(chart for fold in report.folds for chart in fold.charts)]
    scripts = [library(), _drawing({chart.id: chart.item for chart in charts})] if charts else []
    return environment.get_template("page.html.j2").render(
        report=report,
        style=files("occframe.evaluation.report").joinpath("page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        script_sources=" ".join(_source_hash(script) for script in scripts) or "'none'",
        colours=colours_of(report.lines),
    )


def _source_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _drawing(items: Mapping[str, object]) -> str:
    # A name such as </script> must not end the script: in JSON text these characters only stand inside strings.
    safe = json.dumps(items).replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    return files("occframe.evaluation.report").joinpath("draw.js").read_text(encoding="utf-8").replace("CHARTS", safe)
