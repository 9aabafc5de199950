"""JSON Schema of pipeline files, with the options of every installed component, for completion in editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from occframe.component import ComponentBlock
from occframe.config import PipelineConfig
from occframe.errors import PluginError
from occframe.plugins import PluginRegistry

TEMPLATE = "#/$defs/{model}"


def pipeline_schema(registry: PluginRegistry) -> dict[str, Any]:
    """A component whose configuration model cannot be imported is left out; `occframe plugins` tells why."""
    schema = _schema_of(PipelineConfig)
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for block in _block_types():
        choices = []
        for component in registry.components(block.kind):
            try:
                options = _schema_of(component.load_config())
            except PluginError:
                continue
            definitions |= options.pop("$defs", {})
            choices.append(_choice(block, component.name, component.qualified_name, component.summary, options))
        names = [component.name for component in registry.components(block.kind)]
        definitions[block.__name__] = {"anyOf": [{"enum": names}, *choices]} if names else {"not": {}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def _choice(
    block: type[ComponentBlock], name: str, qualified: str, summary: str, options: dict[str, Any]
) -> dict[str, Any]:
    envelope = _envelope(block)
    return {
        "type": "object",
        "description": summary,
        "properties": {"use": {"enum": [name, qualified]}, **envelope["properties"], **options.get("properties", {})},
        "required": ["use", *options.get("required", [])],
        "additionalProperties": False,
        # Only definitions travel upwards; everything else of the model's own schema is written above.
    }


def _envelope(block: type[ComponentBlock]) -> dict[str, Any]:
    """Keys a block has beside the component's own options, such as a step's ``name``."""
    own = set(block.model_fields) - {"use", "owner", "config"}
    if not own:
        return {"properties": {}}
    fields = {key: (block.model_fields[key].annotation, block.model_fields[key]) for key in own}
    from pydantic import create_model

    model: type[BaseModel] = create_model("Envelope", **fields)  # type: ignore[call-overload]
    schema = model.model_json_schema(ref_template=TEMPLATE)
    return {"properties": schema["properties"], "$defs": schema.get("$defs", {})}


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(ref_template=TEMPLATE)


def _block_types() -> list[type[ComponentBlock]]:
    found, waiting = [], [ComponentBlock]
    while waiting:
        for block in waiting.pop().__subclasses__():
            found.append(block)
            waiting.append(block)
    return found
