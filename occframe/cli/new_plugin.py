from __future__ import annotations

from pathlib import Path

import click

from occframe.plugins import KINDS


@click.command("new-plugin", epilog="Then: cd NAME, pip install -e '.[dev]', occframe plugins check NAME.")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it provides.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder in which the project's folder is made; the current one.",
)
def new_plugin(name: str, kind: str, into: Path) -> None:
    """Write the project of a new plugin: one component that works, options, tests, README, CI."""
    from occframe.scaffold import write_project

    written = write_project(into, name, kind)
    for file in written:
        click.echo(f"  {file}")
    folder = into / name
    click.echo(f"next: cd {folder} && pip install -e '.[dev]' && occframe plugins check {name}")
