"""How ``occframe plugins check`` tells what became of the checks."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import click

from occframe.testing.suite import Report, Result

_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def print_result(result: Result, *, verbose: bool) -> None:
    """Failures as they come; with ``verbose`` every check."""
    if verbose or result.outcome == "failed":
        click.echo(f"{click.style(result.outcome, fg=_COLOURS[result.outcome])}  {result.id}")
        for line in (result.message + (f"\n{result.details}" if verbose else "")).strip().splitlines():
            click.echo(f"        {line}")


def print_report(report: Report) -> None:
    """A line a component, and why checks were skipped."""
    width = max(len(_component(result)) for result in report.results)
    for name, results in groupby(report.results, key=_component):
        counts = Counter(result.outcome for result in results)
        told = ", ".join(
            f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome]
        )
        click.secho(f"{name:{width}}  {told}", fg="red" if counts["failed"] else None)
    reasons = Counter(result.message for result in report.results if result.outcome == "skipped")
    for reason, count in sorted(reasons.items()):
        click.secho(f"  skipped {count}: {reason}", dim=True)
    known = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    verdict = "conforms" if report.conforms else "does not conform"
    click.secho(f"{report.distribution} {verdict} ({known})", bold=True, fg="green" if report.conforms else "red")


def _component(result: Result) -> str:
    return result.id.rpartition("/")[0]
