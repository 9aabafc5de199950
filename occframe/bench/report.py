"""A suite's result as one HTML page: systems side by side under every trial and condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from occframe.bench.results import cell
from occframe.evaluation.figures import headline_names, is_share, title
from occframe.evaluation.report import content
from occframe.evaluation.report.charts import Chart, sweep_chart
from occframe.evaluation.report.page import Report, render
from occframe.evaluation.results import Evaluation
from occframe.step import Artefact
from occframe.types import Curve, ProtocolResult
from occframe.yamlfile import dump_yaml


def suite_report(result: Mapping[str, Any], heading: str = "") -> str:
    """The page. Raises OccframeError where the cells of the suite are not on this machine."""
    results: dict[str, dict[str, ProtocolResult]] = {}
    for row in result["rows"]:
        results.setdefault(f"{row['trial']}, {row['condition']}", {})[row["system"]] = cell(result, row)
    systems = list(dict.fromkeys(row["system"] for row in result["rows"]))
    nobody = Artefact("", "embeddings", "", {})
    # To the page systems are what conditions are to a single evaluation: columns, and lines of a chart.
    evaluation = Evaluation(nobody, dict.fromkeys(systems, nobody), results)
    hours, rest = divmod(int(result["seconds"]), 3600)
    facts = {
        "suite": f"{result['suite']} ({result['suite_hash']})",
        "finished": result["finished"],
        "seed": result["seed"],
        "computed in": f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s",
        **{f"digest of {name}": digest for name, digest in result.get("inputs", {}).items()},
    }
    environment = [(key, str(value)) for part in ("versions", "machine") for key, value in result[part].items()]
    return render(
        Report(
            title=heading or f"Benchmark {result['suite']}",
            facts=[(name, str(value)) for name, value in facts.items()],
            conditions=systems,
            cards=content.cards(evaluation),
            tables=content.tables(evaluation),
            charts=[*_sweeps(result), *content.charts(evaluation)],
            sheets=[],
            mistakes=[],
            notes=["Faces are shown by the report of a single evaluation, the step `report`."],
            configuration=dump_yaml(result["configuration"]),
            environment=environment,
        )
    )


def _sweeps(result: Mapping[str, Any]) -> Iterator[Chart]:
    """One chart a trial, sweep and figure: how it falls for each system."""
    rows = {(row["system"], row["trial"], row["condition"]): row["metrics"] for row in result["rows"]}
    systems = list(dict.fromkeys(row["system"] for row in result["rows"]))
    for trial in result["configuration"]["trials"]:
        for name, sweep in result["configuration"].get("sweeps", {}).items():
            points = [(value, f"{name}-{value:g}".replace(".", "_")) for value in sweep["values"]]
            known = {key: 0.0 for value, point in points for key in rows.get((systems[0], trial, point), {})}
            for figure in headline_names(known, 3):
                curves = {}
                for system in systems:
                    found = [
                        (value, rows[system, trial, point][figure])
                        for value, point in points
                        if figure in rows.get((system, trial, point), {})
                    ]
                    if found:
                        x, y = np.array(found, float).T
                        curves[system] = Curve(figure, x, y)
                if curves:
                    heading = f"{title(figure)} over {sweep['axis']}, {name}, {trial}"
                    id_ = f"sweep-{trial}-{name}-{figure}".replace("@", "-").replace("=", "-").replace(".", "_")
                    yield sweep_chart(id_, heading, sweep["axis"], title(figure), curves, rate=is_share(figure))
