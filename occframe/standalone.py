"""Components outside a pipeline: for commands, notebooks and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from occframe.component import BuildContext, ComponentBlock
from occframe.errors import ConfigError, OccframeError, Problem, first_line

Block = TypeVar("Block", bound=ComponentBlock)


def standalone_context(*, device: str = "cpu", seed: int = 0) -> BuildContext:
    """A context to build components with, of all installed plugins."""
    from occframe.plugins import PluginRegistry

    return BuildContext(registry=PluginRegistry.discover(), device=device, seed=seed)


def parse_block(kind: type[Block], written: Mapping[str, Any], context: BuildContext) -> Block:
    """A validated block from ``{"use": NAME, option: value}``. Raises ConfigError with every fault."""
    try:
        return kind.model_validate(dict(written), context={"registry": context.registry})
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False):
            details = item.get("ctx") or {}
            path = ".".join(str(part) for part in item["loc"] if part != "config")
            problems.append(Problem(str(written.get("use", kind.kind)), path, item["msg"], details.get("remedy")))
        raise ConfigError(problems) from None


def options_from(settings: Sequence[str]) -> dict[str, Any]:
    """Options of a component from a command's ``KEY=VALUE`` texts, the values read as YAML. Raises OccframeError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise OccframeError(f"`{setting}` is not KEY=VALUE", remedy="write it as in size=112")
        try:
            options[key.strip()] = YAML(typ="safe").load(value)
        except YAMLError as error:
            raise OccframeError(f"`{value}` of {key} is not YAML: {first_line(error)}") from error
    return options
