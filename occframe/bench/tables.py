"""Results of suites as tables: for a terminal, and as Markdown for a README that cannot go stale unnoticed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from occframe.bench.results import read_result
from occframe.errors import OccframeError
from occframe.evaluation.figures import headline_names, interval_text, title, value_text

_BLOCK = re.compile(r"(<!-- bench: (?P<what>[^\n]*?) -->\n)(?P<body>.*?)(<!-- /bench -->)", re.DOTALL)


def as_table(result: Mapping[str, Any]) -> Table:
    """The first three figures of each trial that stand on their own; the file has them all."""
    by_trial: dict[str, dict[str, float]] = {}
    for row in result["rows"]:
        by_trial.setdefault(row["trial"], {}).update(dict.fromkeys(row["metrics"], 0.0))
    figures = list(dict.fromkeys(name for known in by_trial.values() for name in headline_names(known, 3)))
    table = Table(title=f"{result['suite']} ({result['suite_hash']})")
    for heading in ("system", "trial", "condition"):
        table.add_column(heading)
    for figure in figures:
        table.add_column(title(figure), justify="right")
    for row in result["rows"]:
        values = [value_text(row["metrics"], figure) for figure in figures]
        table.add_row(row["system"], row["trial"], row["condition"], *values)
    return table


def as_markdown(
    result: Mapping[str, Any], *, figures: Sequence[str] = (), stale: Mapping[int, Sequence[str]] | None = None
) -> str:
    """One table a trial: a line a system and condition, the figures with their 95 % intervals.

    figures: which, by name; the first three that stand on their own where empty. Raises OccframeError: none is there.
    """
    parts = []
    for trial in dict.fromkeys(row["trial"] for row in result["rows"]):
        rows = [(number, row) for number, row in enumerate(result["rows"]) if row["trial"] == trial]
        known = {name: 0.0 for _, row in rows for name in row["metrics"]}
        if unknown := [name for name in figures if not any(name in row["metrics"] for row in result["rows"])]:
            raise OccframeError(f"no row has the figure `{unknown[0]}`", remedy=f"there are: {', '.join(known)}")
        shown = [name for name in figures if name in known] or headline_names(known, 3)
        lines = [
            f"| {trial} | condition | " + " | ".join(title(name) for name in shown) + " |",
            "|---|---|" + "---|" * len(shown),
        ]
        for number, row in rows:
            cells = [_with_interval(row, name) for name in shown]
            mark = " †" if stale and number in stale else ""
            lines.append(f"| {_plain(row['system'])}{mark} | {_plain(row['condition'])} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    machine = result["machine"]
    where = f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores".strip(", ")
    foot = f"Suite `{result['suite']}` ({result['suite_hash']}), {str(result['finished'])[:10]}, {where}"
    foot += "; in brackets 95 % of bootstraps over people."
    if stale:
        foot += " †: computed from inputs that have changed since."
    return "\n\n".join([*parts, foot]) + "\n"


def render_blocks(page: Path) -> str:
    """The text of a Markdown page with every ``<!-- bench: RESULT.json [figure …] -->`` block rendered anew.

    Paths are relative to the page. Raises OccframeError: no such block, no such result.
    """
    text = page.read_text(encoding="utf-8")
    if not _BLOCK.search(text):
        raise OccframeError(
            f"{page} has no block to fill",
            remedy="write <!-- bench: RESULT.json --> and <!-- /bench -->, each on a line of its own",
        )

    def fill(match: re.Match[str]) -> str:
        path, *figures = match["what"].split()
        table = as_markdown(read_result(page.parent / path), figures=figures)
        return f"{match[1]}{table}{match[4]}"

    return _BLOCK.sub(fill, text)


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    text = value_text(row["metrics"], name)
    ends = row.get("intervals", {}).get(name)
    return f"{text} {interval_text(name, *ends)}" if ends and name in row["metrics"] else text


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
