"""What several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from occframe.config import Pipeline, load_pipeline
from occframe.errors import ConfigError, OccframeError, Problem
from occframe.plugins import PluginRegistry
from occframe.yamlfile import YamlFile, read_yaml

if TYPE_CHECKING:
    from rich.console import Console

inline_option = click.option(
    "--inline-plugin",
    "inline",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Load this Python file as a plugin.",
)
strict_option = click.option("--strict-plugins", "strict", is_flag=True, help="Fail if any plugin does not load.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value, e.g. steps.train.epochs=3."
)
device_option = click.option("--device", default="cpu", show_default=True, help="A torch device, e.g. cuda.")
seed_option = click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of what is drawn.")
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")


def table_console() -> Console:
    """Standard output, for tables: where it is no terminal nothing is cut to a width that nobody has."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=10_000)


def discover(inline: Sequence[Path], strict: bool) -> PluginRegistry:
    registry = PluginRegistry.discover(inline=inline)
    bad = [record for record in registry.records if record.status in ("failed", "incompatible")]
    inline_names = {f"inline {path.name}" for path in inline}
    for record in bad:
        # A file the user named must load; an installed plugin only has to when somebody asks for it.
        if strict or record.distribution in inline_names:
            raise OccframeError(f"plugin {record.label} did not load: {record.error}\n{record.details or ''}".rstrip())
    return registry


def read_with_plugins(path: Path, inline: Sequence[Path], strict: bool) -> tuple[YamlFile, PluginRegistry]:
    """A YAML file and the plugins it may use: ``plugins:`` lists inline ones, relative to the file itself.

    A ``plugins:`` that is no list of texts loads nothing here; the file's own model reports it.
    """
    file = read_yaml(path)
    listed = file.value.get("plugins") if isinstance(file.value, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        listed = []
    named = [path.parent / item for item in listed]
    if missing := [
        Problem(file.where(("plugins", number)), "plugins", f"no inline plugin at {found}")
        for number, found in enumerate(named)
        if not found.is_file()
    ]:
        raise ConfigError(missing)
    return file, discover([*inline, *named], strict)


def load(path: Path, inline: Sequence[Path], strict: bool, overrides: Sequence[str]) -> tuple[Pipeline, PluginRegistry]:
    """A validated pipeline and the plugins it may use, its own ``plugins:`` among them."""
    file, registry = read_with_plugins(path, inline, strict)
    return load_pipeline(file, registry, overrides), registry
