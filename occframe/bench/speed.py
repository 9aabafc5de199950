"""Results of ``benchmarks/perf`` as a table: how fast something is against how fast something else is."""

from __future__ import annotations

import json
from pathlib import Path

from occframe.errors import OccframeError
from occframe.evaluation.report.page import Cell, Row, Table

_COLUMNS = ("ratio", "ours", "theirs", "bar")


def speed_table(path: Path) -> Table:
    """Raises OccframeError: the file is missing, or no result of a benchmark of speed."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            Row(
                str(row["name"]),
                [
                    Cell(f"{row['ratio']:.2f}", detail=f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"),
                    Cell(f"{row['ours']:,.4g} {row['unit']}"),
                    Cell(f"{row['theirs']:,.4g} {row['unit']}"),
                    Cell(str(row["bar"])),
                ],
                minor=False,
            )
            for row in result["rows"]
        ]
        notes = [f"{result['date']}, {result['machine']}; ours over theirs, interleaved: median and spread of rounds."]
    except OSError as error:
        raise OccframeError(f"cannot read {path}: {error.strerror}", remedy="name a perf-*.json file") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OccframeError(
            f"{path} is no result of a benchmark of speed: {error!r}",
            remedy="make one with `python benchmarks/perf/NAME.py --out FILE`",
        ) from error
    if result.get("quick"):
        notes.append("A quick run, with small sizes: it shows that the benchmark runs, and nothing else.")
    return Table(f"Speed: {path.stem.removeprefix('perf-').replace('-', ' ')}", _COLUMNS, rows, notes, first="what")
