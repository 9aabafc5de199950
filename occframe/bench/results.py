"""The result of a suite as plain data, and as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from occframe.bench.suite import SuiteConfig, evaluation_step
from occframe.rundir import StepRecord, canonical

FORMAT = 1


def collect(suite: SuiteConfig, steps: Mapping[str, StepRecord], run: Mapping[str, Any]) -> dict[str, Any]:
    """One row a system × trial × condition, and what a reader needs to rerun it. run: the manifest's facts."""
    flat = suite.model_dump(mode="json")
    rows = []
    for system in suite.systems:
        for trial in suite.trials:
            record = steps[evaluation_step(system, trial)]
            for condition in suite.conditions:
                # Metric names of the evaluate step read protocol.condition.figure.
                metrics = {
                    key.split(".", 2)[2]: value
                    for key, value in record.metrics.items()
                    if key.split(".", 2)[1] == condition
                }
                rows.append({"system": system, "trial": trial, "condition": condition, "metrics": metrics})
    return {
        "format": FORMAT,
        "suite": suite.name,
        "suite_hash": hashlib.sha256(canonical(flat)).hexdigest()[:16],
        "seed": suite.seed,
        "finished": max(steps[evaluation_step(s, t)].started for s in suite.systems for t in suite.trials),
        "seconds": round(sum(record.seconds for record in steps.values()), 1),
        "data": run["data"],
        "versions": run["versions"],
        "machine": run["machine"],
        "configuration": flat,
        "rows": rows,
    }


def as_table(result: Mapping[str, Any]) -> Table:
    figures = list(dict.fromkeys(key for row in result["rows"] for key in row["metrics"]))
    table = Table(title=f"{result['suite']} ({result['suite_hash']})")
    for heading in ("system", "trial", "condition"):
        table.add_column(heading)
    for figure in figures:
        table.add_column(figure, justify="right")
    for row in result["rows"]:
        values = (row["metrics"].get(figure) for figure in figures)
        table.add_row(
            row["system"],
            row["trial"],
            row["condition"],
            *("" if value is None else f"{value:.4f}" for value in values),
        )
    return table
