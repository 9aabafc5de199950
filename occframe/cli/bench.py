from __future__ import annotations

import json
from pathlib import Path

import click

from occframe.cli.common import inline_option, json_option, read_with_plugins, strict_option


@click.group()
def bench() -> None:
    """Compare systems on data sets and protocols."""


@bench.command()
@click.argument("suite", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Result file; in the run_dir if absent."
)
@inline_option
@strict_option
@json_option
def run(suite: Path, out: Path | None, inline: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """Run SUITE (a YAML file): systems × data × conditions × protocols. Cells that are done are not computed again."""
    from rich.console import Console

    from occframe.bench.results import as_table, collect
    from occframe.bench.suite import expand, load_suite
    from occframe.pipeline import Runner
    from occframe.storage import join, write_json

    file, registry = read_with_plugins(suite, inline, strict)
    config = load_suite(file, registry)
    runner = Runner(expand(config, suite.name, registry), registry, Console(stderr=True))
    done = runner.run()
    result = collect(config, done.steps, runner.run_dir.info)
    target = str(out) if out else join(config.run_dir, "result.json")
    write_json(target, result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        Console().print(as_table(result))
        click.echo(f"written to {target}")
