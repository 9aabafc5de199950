from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def doctor(as_json: bool) -> None:
    """Check Python, torch, devices, faiss and plugins. Exits with 1 if something is wrong."""
    from occframe.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        marks = {"ok": ("ok", "green"), "note": ("--", "yellow"), "bad": ("!!", "red")}
        for finding in findings:
            mark, colour = marks[finding.level]
            click.echo(f"{click.style(mark, fg=colour)} {finding.what}: {finding.found}")
            if finding.remedy:
                click.echo(f"     -> {finding.remedy}")
    if any(finding.level == "bad" for finding in findings):
        raise SystemExit(1)
