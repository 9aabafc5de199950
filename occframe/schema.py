"""JSON Schema of pipeline files, with the options of every installed component, for completion in editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, create_model

from occframe.component import BLOCK_MARK, ComponentBlock
from occframe.config import PipelineConfig
from occframe.errors import PluginError
from occframe.plugins import Component, PluginRegistry


def pipeline_schema(registry: PluginRegistry) -> dict[str, Any]:
    """A component whose configuration model cannot be imported is left out; `occframe plugins` tells why."""
    definitions: dict[str, Any] = {}
    schema = _schema_of(PipelineConfig, "", definitions)
    for block in _block_types():
        envelope = _envelope(block, definitions)
        components = registry.components(block.kind)
        choices = [_choice(component, envelope, definitions) for component in components]
        names = sorted({name for component in components for name in (component.name, component.qualified_name)})
        written = [{"enum": names}, *(choice for choice in choices if choice)] if names else []
        if block.alone is not None:
            written.append({"type": "object", "properties": envelope, "additionalProperties": False})
        definitions[block.__name__] = {"anyOf": written} if written else {"not": {}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"$defs": definitions}


def _choice(component: Component, envelope: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    try:
        model = component.load_config()
    except PluginError:
        return None
    prefix = f"{component.kind}.{component.owner}.{component.name}."
    options = _schema_of(model, prefix, definitions)
    return {
        "type": "object",
        "description": component.summary,
        "properties": {
            "use": {"enum": [component.name, component.qualified_name]},
            **envelope,
            **options.get("properties", {}),
        },
        "required": ["use", *options.get("required", [])],
        "additionalProperties": False,
    }


def _envelope(block: type[ComponentBlock], definitions: dict[str, Any]) -> dict[str, Any]:
    """Keys a block has beside the component's own options, such as a step's ``name``."""
    own = {key: info for key, info in block.model_fields.items() if key not in ComponentBlock.model_fields}
    if not own:
        return {}
    model: type[BaseModel] = create_model("Envelope", **{key: (info.annotation, info) for key, info in own.items()})  # type: ignore[call-overload]
    properties: dict[str, Any] = _schema_of(model, f"{block.__name__}.", definitions)["properties"]
    return properties


def _schema_of(model: type[BaseModel], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a model; what it refers to goes into ``definitions`` under ``prefix``, as models share names."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    definitions |= {prefix + name: _with_blocks(item) for name, item in schema.pop("$defs", {}).items()}
    result: dict[str, Any] = _with_blocks(schema)
    return result


def _with_blocks(node: Any) -> Any:
    """Marks left by ``ComponentBlock`` become references: pydantic follows references itself and knows no others."""
    if isinstance(node, dict):
        if BLOCK_MARK in node:
            return {"$ref": f"#/$defs/{node[BLOCK_MARK]}"}
        return {key: _with_blocks(item) for key, item in node.items()}
    return [_with_blocks(item) for item in node] if isinstance(node, list) else node


def _block_types() -> list[type[ComponentBlock]]:
    found: list[type[ComponentBlock]] = []
    waiting: list[type[ComponentBlock]] = [ComponentBlock]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return found
