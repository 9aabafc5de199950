"""The example configurations of a component, what they leave out filled in where its type says how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from occframe.component import ComponentBlock, FileRef, Reference
from occframe.errors import OccframeError
from occframe.step import StepConfig
from occframe.testing.check import Inapplicable

if TYPE_CHECKING:
    from occframe.plugins import Component, PluginRegistry

_UNKNOWN = object()


def examples_of(component: Component, registry: PluginRegistry, folder: Path) -> list[Mapping[str, Any]]:
    """What the configuration's ``examples`` gives, or ``[{}]``; what it refers to of a pipeline is made up.

    Raises Inapplicable where the component says that there can be no example here, because something is not installed.
    """
    model = component.load_config()
    offered = getattr(model, "examples", None)
    try:
        written = list(offered(folder)) if offered else []
    except OccframeError as error:
        raise Inapplicable(f"no example: {error.message}") from error
    return [_completed(example, model, registry, folder) for example in written or [{}]]


def _completed(
    written: Mapping[str, Any], model: type[BaseModel], registry: PluginRegistry, folder: Path
) -> dict[str, Any]:
    required = {name: option for name, option in model.model_fields.items() if option.is_required()}
    missing = {name: option for name, option in required.items() if name not in written}
    filled = {name: _made_up(option.annotation, registry, folder) for name, option in missing.items()}
    if issubclass(model, StepConfig):  # no step is run, so that its files need not be there
        filled |= {name: "given" for name, option in missing.items() if option.annotation is FileRef}
    return dict(written) | {name: value for name, value in filled.items() if value is not _UNKNOWN}


def _made_up(kind: Any, registry: PluginRegistry, folder: Path) -> Any:
    """A value of a type that refers to something: the name of an artefact, or a component of the kind."""
    if isinstance(kind, type) and issubclass(kind, Reference):
        return "given"
    if isinstance(kind, type) and issubclass(kind, ComponentBlock):
        return _some_block(kind, registry, folder)
    inner = get_args(kind)
    if get_origin(kind) is list:
        value = _made_up(inner[0], registry, folder)
        return value if value is _UNKNOWN else [value]
    if get_origin(kind) is dict:
        value = _made_up(inner[1], registry, folder)
        return value if value is _UNKNOWN else {"given": value}
    return _UNKNOWN


def _some_block(kind: type[ComponentBlock], registry: PluginRegistry, folder: Path) -> Any:
    """The first component of the kind whose example is valid."""
    for component in registry.components(kind.kind):
        try:
            block = {"use": component.qualified_name, **examples_of(component, registry, folder)[0]}
            kind.model_validate(block, context={"registry": registry})
        except (Inapplicable, ValidationError, OccframeError):
            continue
        return block
    return _UNKNOWN
