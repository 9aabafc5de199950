from __future__ import annotations

import json
from pathlib import Path

import click

from occframe.cli.common import inline_option


@click.command(epilog="Put `# yaml-language-server: $schema=FILE` on a pipeline's first line for completion.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@inline_option
def schema(output: Path | None, inline: tuple[Path, ...]) -> None:
    """Print the JSON Schema of pipeline files, options of all installed plugins included."""
    from occframe.plugins import PluginRegistry
    from occframe.schema import pipeline_schema

    text = json.dumps(pipeline_schema(PluginRegistry.discover(inline=inline)), indent=2)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)
