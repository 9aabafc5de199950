from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from occframe.cli.common import inline_option, json_option, load, set_option, strict_option


@click.command(epilog="A second run skips what is done and goes on where a stopped one ended.")
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option("--from", "start", metavar="STEP", help="Redo from this step on.")
@click.option("--only", metavar="STEP", help="Redo this step and nothing else.")
@click.option("--dry-run", is_flag=True, help="Show what would run, and why.")
@set_option
@inline_option
@strict_option
@json_option
def run(
    pipeline: Path,
    start: str | None,
    only: str | None,
    dry_run: bool,
    overrides: tuple[str, ...],
    inline: tuple[Path, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Run PIPELINE (a YAML file), or go on where it stopped."""
    if start and only:
        raise click.UsageError("--from and --only exclude each other")
    loaded, registry = load(pipeline, inline, strict, overrides)

    from occframe.pipeline import Runner

    runner = Runner(loaded, registry, Console(stderr=True))
    if dry_run:
        plan = runner.plan(start=start, only=only)
        if as_json:
            click.echo(json.dumps([asdict(step) for step in plan], indent=2))
            return
        width = max(len(step.name) for step in plan)
        for step in plan:
            click.echo(f"{step.action:6}  {step.name:{width}}  {step.why}")
        return
    result = runner.run(start=start, only=only)
    if as_json:
        steps = {name: asdict(record) for name, record in result.steps.items()}
        click.echo(json.dumps({"run_dir": result.url, "headlines": result.headlines, "steps": steps}, indent=2))
        return
    for line in result.headlines:
        click.echo(line)
