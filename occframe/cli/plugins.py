from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import click

from occframe.errors import OccframeError
from occframe.plugins import KINDS, PluginRegistry


@click.command()
@click.option("--kind", type=click.Choice(KINDS), help="Only components of this kind.")
@click.option("--inline-plugin", "inline", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strict-plugins", "strict", is_flag=True, help="Fail if any plugin does not load.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def plugins(kind: str | None, inline: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """List plugins and the components they provide. Nothing of a component is imported."""
    registry = PluginRegistry.discover(inline=inline)
    if as_json:
        click.echo(json.dumps(_as_json(registry, kind), indent=2))
    else:
        _print(registry, kind)
    bad = [record.name for record in registry.records if record.status in ("failed", "incompatible")]
    if strict and bad:
        raise OccframeError(f"plugins that did not load: {', '.join(bad)}")


def _as_json(registry: PluginRegistry, kind: str | None) -> dict[str, object]:
    return {
        "plugins": [
            {key: getattr(record, key) for key in ("name", "distribution", "version", "status", "error")}
            for record in registry.records
        ],
        "components": [
            {key: getattr(item, key) for key in ("kind", "name", "owner", "version", "plugin", "summary")}
            | {"caps": sorted(item.caps)}
            for item in registry.components(kind)
        ],
    }


def _print(registry: PluginRegistry, kind: str | None) -> None:
    components = registry.components(kind)
    width = max((len(item.name) for item in components), default=0)
    for heading, items in groupby(components, key=lambda item: item.kind):
        click.secho(heading, bold=True)
        for item in items:
            owner = "" if item.owner == "occframe" else click.style(f"  [{item.owner} {item.version}]", dim=True)
            click.echo(f"  {item.name:{width}}  {item.summary}{owner}")
    click.secho("plugins", bold=True)
    colours = {"loaded": "green", "blocked": "yellow"}
    for record in registry.records:
        status = click.style(record.status, fg=colours.get(record.status, "red"))
        click.echo(f"  {record.label}: {status}" + (f": {record.error}" if record.error else ""))
