"""A suite's result as one HTML page: systems side by side under every trial and condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from occframe.bench.faces import Cells, faces_of, hardest
from occframe.bench.results import cells
from occframe.bench.speed import speed_table
from occframe.evaluation.figures import sentence, title
from occframe.evaluation.report import content
from occframe.evaluation.report.charts import Chart, colours_of
from occframe.evaluation.report.mistakes import mistake_groups
from occframe.evaluation.report.page import Fold, Report, Table, render
from occframe.steps.sweep import point_name
from occframe.types import Curve, ProtocolResult
from occframe.yamlfile import dump_yaml

if TYPE_CHECKING:
    from occframe.plugins import PluginRegistry

#: Of a page: pictures take what its figures and charts leave.
MOST_BYTES = 3_000_000


def suite_report(
    result: Mapping[str, Any], heading: str = "", speed: Sequence[Path] = (), registry: PluginRegistry | None = None
) -> tuple[str, list[str]]:
    """The page, and what is to be said of it. speed: results of ``benchmarks/perf``, shown besides. registry: to read
    faces with, which the page then shows.

    Raises OccframeError: the cells of the suite are not on this machine, or a file of ``speed`` is no such result.
    """
    found: dict[str, dict[str, dict[str, ProtocolResult]]] = {}
    for row, of in cells(result):
        found.setdefault(row["trial"], {}).setdefault(row["condition"], {})[row["system"]] = of
    systems = list(dict.fromkeys(row["system"] for row in result["rows"]))
    colours = colours_of(systems)
    hours, rest = divmod(int(result["seconds"]), 3600)
    facts = {
        "suite": f"{result['suite']} ({result['suite_hash']})",
        "finished": result["finished"],
        "seed": result["seed"],
        "computed in": f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s",
    }
    environment = [(key, str(value)) for part in ("versions", "machine") for key, value in result[part].items()]
    environment += [(f"digest of {name}", digest) for name, digest in result.get("inputs", {}).items()]
    sweeps = _sweeps(result)
    worst = hardest(found)
    page = Report(
        title=heading or f"Benchmark {result['suite']}",
        facts=[(name, str(value)) for name, value in facts.items()],
        lines=systems,
        cards=[],
        tables=[*_headlines(found, sweeps), *map(speed_table, speed)],
        charts=list(_sweep_charts(found, sweeps, colours)),
        sheets=[],
        mistakes=mistake_groups(worst, {}),
        notes=[],
        configuration=dump_yaml(result["configuration"]),
        environment=environment,
        folds=list(_details(found, sweeps, colours)),
    )
    written = render(page)
    if registry is None:
        return written, []
    faces, problems = faces_of(result, worst, registry, MOST_BYTES - len(written))
    notes = [f"Pictures are left out: {problem}." for problem in problems]
    return render(replace(page, mistakes=mistake_groups(worst, faces), notes=notes)), notes


def _sweeps(result: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, float]]]:
    """By name: what is swept, and its value by condition."""
    return {
        name: (sweep["axis"], {point_name(name, value): value for value in sweep["values"]})
        for name, sweep in result["configuration"].get("sweeps", {}).items()
    }


def _headlines(found: Cells, sweeps: Mapping[str, tuple[str, Mapping[str, float]]]) -> Iterator[Table]:
    """The first two figures of each trial under its conditions, and the first along each sweep."""
    swept = {condition for _, points in sweeps.values() for condition in points}
    note = "Bold: the best of a column. In brackets: confidence intervals, bootstrapped over people."
    for number, (trial, by_condition) in enumerate(found.items()):
        names = content.headlines({name: of for by in by_condition.values() for name, of in by.items()}, 2)
        parts = {"": {name: of for name, of in by_condition.items() if name not in swept}}
        for name, (axis, points) in sweeps.items():
            parts[f" over {axis}, {name}"] = {
                f"{value:g}": by_condition[point] for point, value in points.items() if point in by_condition
            }
        for suffix, of in parts.items():
            for place, figure in enumerate(names[:1] if suffix else names):
                if of:
                    caption = f"{sentence(title(figure))}, {trial}{suffix}"
                    notes = [note] if number == place == 0 and not suffix else []
                    yield content.matrix(caption, figure, of, "system", notes)


def _sweep_charts(
    found: Cells, sweeps: Mapping[str, tuple[str, Mapping[str, float]]], colours: Mapping[str, str]
) -> Iterator[Chart]:
    """One chart a trial, sweep and figure: how it falls for each system."""
    for trial, by_condition in found.items():
        for name, (axis, points) in sweeps.items():
            shown = {point: value for point, value in points.items() if point in by_condition}
            if not shown:
                continue
            for figure in content.headlines(by_condition[next(iter(shown))], 2):
                curves, results = {}, {}
                for system in colours:
                    known = {
                        value: of
                        for point, value in shown.items()
                        if (of := by_condition[point].get(system)) is not None and figure in of.metrics
                    }
                    if known:
                        y = [of.metrics[figure] for of in known.values()]
                        curves[system] = Curve(figure, np.array(list(known), float), np.array(y, float))
                        results[system] = list(known.values())
                if curves:
                    yield content.swept(
                        content.plain_id(f"sweep-{trial}-{name}-{figure}"),
                        f"{title(figure)} over {axis}, {name}, {trial}",
                        axis,
                        figure,
                        curves,
                        results,
                        colours,
                    )


def _details(
    found: Cells, sweeps: Mapping[str, tuple[str, Mapping[str, float]]], colours: Mapping[str, str]
) -> Iterator[Fold]:
    """All figures and curves of one trial under one condition; points of sweeps have their own charts."""
    swept = {condition for _, points in sweeps.values() for condition in points}
    for trial, by_condition in found.items():
        for condition, of in by_condition.items():
            if condition in swept:
                continue
            results = {f"{trial}, {condition}": of}
            yield Fold(
                f"{trial}, {condition}",
                [*content.tables(results, "system"), *content.group_tables(results)],
                list(content.charts(results, colours, content.plain_id(f"fold-{trial}-{condition}"))),
            )
