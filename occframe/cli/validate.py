from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from occframe.cli.common import inline_option, json_option, load, set_option, strict_option
from occframe.errors import ConfigError


@click.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@set_option
@inline_option
@strict_option
@json_option
def validate(pipeline: Path, overrides: tuple[str, ...], inline: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """Check PIPELINE: names, options, types, ranges and references. Nothing is run and no data is read."""
    try:
        loaded, _ = load(pipeline, inline, strict, overrides)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problems": [asdict(problem) for problem in error.problems]}, indent=2))
        raise SystemExit(2) from None
    if as_json:
        click.echo(json.dumps({"valid": True, "problems": [], "steps": list(loaded.steps)}))
    else:
        click.echo(f"{pipeline}: valid; steps: {', '.join(loaded.steps)}")
