"""What several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from occframe.config import Pipeline, load_pipeline
from occframe.errors import ConfigError, OccframeError, Problem
from occframe.plugins import PluginRegistry
from occframe.yamlfile import read_yaml

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
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")


def discover(inline: Sequence[Path], strict: bool) -> PluginRegistry:
    registry = PluginRegistry.discover(inline=inline)
    bad = [record for record in registry.records if record.status in ("failed", "incompatible")]
    inline_names = {f"inline {path.name}" for path in inline}
    for record in bad:
        # A file the user named must load; an installed plugin only has to when somebody asks for it.
        if strict or record.distribution in inline_names:
            raise OccframeError(f"plugin {record.label} did not load: {record.error}\n{record.details or ''}".rstrip())
    return registry


def load(path: Path, inline: Sequence[Path], strict: bool, overrides: Sequence[str]) -> tuple[Pipeline, PluginRegistry]:
    """A validated pipeline and the plugins it may use, its own ``plugins:`` among them."""
    file = read_yaml(path)
    listed = file.value.get("plugins") if isinstance(file.value, dict) else None
    named = (
        [Path(item) for item in listed] if isinstance(listed, list) and all(isinstance(i, str) for i in listed) else []
    )
    for number, item in enumerate(named):
        found = item if item.is_absolute() else path.parent / item
        if not found.is_file():
            raise ConfigError([Problem(file.where(("plugins", number)), "plugins", f"no inline plugin at {found}")])
        named[number] = found
    registry = discover([*inline, *named], strict)
    return load_pipeline(file, registry, overrides), registry
