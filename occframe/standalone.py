"""Components outside a pipeline: for commands, notebooks and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from occframe.component import BuildContext, ComponentBlock
from occframe.errors import ConfigError, Problem

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
