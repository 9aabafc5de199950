from __future__ import annotations

import json
import sys
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import click

from occframe.cli.component_options import facts, show
from occframe.errors import OccframeError
from occframe.plugins import KINDS, PluginRegistry


@click.group(invoke_without_command=True)
@click.option("--kind", type=click.Choice(KINDS), help="Only components of this kind.")
@click.option("--inline-plugin", "inline", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strict-plugins", "strict", is_flag=True, help="Fail if any plugin does not load.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
@click.pass_context
def plugins(context: click.Context, kind: str | None, inline: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """List plugins and the components they provide. Nothing of a component is imported."""
    if context.invoked_subcommand is not None:
        return
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
        "components": [facts(item) for item in registry.components(kind)],
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


@plugins.command(epilog="The same as pytest --occframe-plugin DIST, without pytest. See docs/conformance.md.")
@click.argument("distribution", metavar="DIST")
@click.option("--tier", type=click.Choice(["core", "all"]), default="core", help="`all`: the extra checks too.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as JSON to this file."
)
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON to standard output.")
@click.option("-v", "--verbose", is_flag=True, help="Name every check, and show tracebacks.")
def check(distribution: str, tier: Literal["core", "all"], report: Path | None, as_json: bool, verbose: bool) -> None:
    """Prove the components of DIST: do they keep what their kinds promise?

    DIST is an installed distribution, an entry point's name, or a plugin file.
    """
    from occframe.cli.conformance import print_report, print_result
    from occframe.testing.suite import Conformance

    file = Path(distribution)
    inline = [file] if file.suffix == ".py" and file.is_file() else []
    suite = Conformance("" if inline else distribution, inline=inline, tier=tier)
    try:
        found = suite.run((lambda result: None) if as_json else partial(print_result, verbose=verbose))
    finally:
        suite.close()
    text = json.dumps(found.as_json(), indent=2)
    if report:
        report.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        print_report(found)
    if not found.conforms:
        sys.exit(1)


plugins.add_command(show)
