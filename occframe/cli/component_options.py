"""``occframe plugins show``: what a component is, and what can be written beside its name in a pipeline."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from occframe.errors import OccframeError
from occframe.plugins import KINDS, Component, PluginRegistry

_LONGEST = 60  # characters of a default, beyond which its beginning is shown


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind; all that have the name if absent.")
@click.option("--inline-plugin", "inline", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
@click.pass_context
def show(context: click.Context, name: str, kind: str | None, inline: tuple[Path, ...], as_json: bool) -> None:
    """Every option of the component NAME, with its default and meaning."""
    components = _named(PluginRegistry.discover(inline=inline), name, kind)
    if as_json:
        click.echo(json.dumps([facts(item) | {"options": _options(item)} for item in components], indent=2))
        return
    for item in components:
        title = click.style(f"{item.kind} {item.name}", bold=True)
        click.echo(f"{title} ({item.owner} {item.version}): {item.summary}")
        formatter = context.make_formatter()
        _write(item, formatter)
        click.echo(formatter.getvalue())


def _named(registry: PluginRegistry, name: str, kind: str | None) -> list[Component]:
    owner, _, plain = name.rpartition(":")
    meant = [item for item in registry.components() if item.name == plain and owner in ("", item.owner)]
    kinds = [kind] if kind else dict.fromkeys(item.kind for item in meant)
    if not kinds:
        near = get_close_matches(plain, {item.name for item in registry.components()}, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "`occframe plugins` lists them"
        raise OccframeError(f"no component is called `{name}`", remedy=hint)
    return [registry.find(one, name) for one in kinds]


def facts(item: Component) -> dict[str, Any]:
    """As JSON tells of a component."""
    named = {key: getattr(item, key) for key in ("kind", "name", "owner", "version", "plugin", "summary")}
    return named | {"caps": sorted(item.caps)}


def _options(item: Component) -> list[dict[str, Any]]:
    from pydantic_core import to_json

    found = []
    for name, field in getattr(item.load_config(), "model_fields", {}).items():
        option = {"name": name, "needed": field.is_required(), "description": field.description or ""}
        option["values"] = list(dict.fromkeys(_values(field.annotation)))
        if not field.is_required():
            needs_others = getattr(field, "default_factory_takes_validated_data", False)  # from pydantic 2.10 on
            default = field.get_default(call_default_factory=not needs_others)
            text = to_json(default, serialize_unknown=True, bytes_mode="base64", inf_nan_mode="strings")
            option["default"] = json.loads(text)
        found.append(option)
    return found


def _values(annotation: Any) -> Iterator[str]:
    """The words that may be written, where only some may."""
    for part in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(part)
        else:
            yield from _values(part)


def _write(item: Component, formatter: click.HelpFormatter) -> None:
    about = inspect.cleandoc(getattr(item.load_config(), "__dict__", {}).get("__doc__") or "")  # none that is inherited
    with formatter.indentation():
        if item.caps:
            formatter.write_text(f"Capabilities: {', '.join(sorted(item.caps))}.")
        if about:
            formatter.write_text(about)
        options = [(option["name"], _explained(option)) for option in _options(item)]
        if item.kind == "command":
            formatter.write_text(f"See `occframe {item.name} --help`.")
        elif options:
            formatter.write_dl(options)
        else:
            formatter.write_text("It has no options.")


def _explained(option: dict[str, Any]) -> str:
    parts = [option["description"]] if option["description"] else []
    if option["values"]:
        parts.append(f"values: {', '.join(option['values'])}")
    if option["needed"]:
        return ". ".join([*parts, "NEEDED"])
    value = option["default"]
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return ". ".join([*parts, f"default: {text if len(text) <= _LONGEST else f'{text[:_LONGEST]} …'}"])
