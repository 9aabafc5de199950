"""How configuration names a component, and how a component is built from its block.

A block is written ``{use: NAME, option: value, …}`` (or just ``NAME``) and validated against the component's own
pydantic model. Configuration models declare fields of the block types below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

from occframe.errors import PluginError

if TYPE_CHECKING:
    from occframe.plugins import PluginRegistry
    from occframe.types import ImageSpec


def _with_suggestion(item: ErrorDetails, cls: type[BaseModel]) -> InitErrorDetails:
    """pydantic's "extra inputs are not permitted" becomes a message with near names."""
    kind: str | PydanticCustomError = item["type"]
    context = item.get("ctx") or {}
    if kind == "extra_forbidden" and len(item["loc"]) == 1:
        key, options = str(item["loc"][0]), list(cls.model_fields)
        near = get_close_matches(key, options, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"options: {', '.join(options)}" if options else None
        kind = PydanticCustomError("unknown_key", "unknown option `{key}`", {"key": key, "remedy": remedy})
    elif kind in _SHAPES:
        kind = PydanticCustomError(item["type"], _SHAPES[kind])
    elif kind not in _KNOWN_ERRORS:
        # Braces of the finished message must not be read as a template again.
        message = item["msg"].replace("{", "(").replace("}", ")")
        kind = PydanticCustomError(item["type"], message, context)
    details = InitErrorDetails(type=kind, loc=item["loc"], input=item["input"])
    if isinstance(kind, str) and context:
        details["ctx"] = context
    return details


_KNOWN_ERRORS = frozenset(get_args(core_schema.ErrorType))
#: pydantic's words for these are those of Python's types.
_SHAPES: Mapping[Any, LiteralString] = {
    "tuple_type": "a list is expected, [first, second]",
    "list_type": "a list is expected, [first, second]",
    "dict_type": "a mapping is expected, {key: value}",
    "model_type": "a mapping is expected, {key: value}",
}


def _told_within(item: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a list is only too short since pydantic left out what is wrong in it."""
    length = len(item["loc"])
    return item["type"] == "too_short" and any(
        len(other["loc"]) > length and other["loc"][:length] == item["loc"] for other in errors
    )


class Config(BaseModel):
    """Base of every configuration model: unknown keys are errors with near names, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _name_near_keys(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            details = [_with_suggestion(item, cls) for item in errors if not _told_within(item, errors)]
            raise ValidationError.from_exception_data(error.title, details) from None

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        """Small configurations, as YAML would give them, with which conformance checks exercise the component.

        Override where the defaults need more than a second, or something that is not there: files may be written into
        ``folder``. Raises OccframeError where this machine lacks what no example can do without, such as weights.
        """
        return [{}]


#: Stands in a JSON Schema where a component is chosen; ``occframe.schema`` puts the choices there.
BLOCK_MARK = "x-occframe-block"


class ComponentBlock(BaseModel):
    """A validated ``use:`` block. ``config`` is an instance of the component's own model.

    Validation needs ``context={"registry": PluginRegistry}``. Serialises back to the flat form it is written in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    #: Keys of a block that names no component, where there may be such: ``use`` has the default "" then.
    alone: ClassVar[type[Config] | None] = None

    use: str
    owner: str = ""  # the distribution that provides it; filled in by validation
    config: Any = None

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raw = {"use": raw}
        elif isinstance(raw, Mapping) and "use" not in raw and cls.alone is not None:
            raw = {"use": "", **raw}
        if not isinstance(raw, Mapping) or not isinstance(raw.get("use"), str):
            raise PydanticCustomError(
                "component_block", "a {kind} is written `use: NAME` with its options beside it", {"kind": cls.kind}
            )
        envelope = set(cls.model_fields) - {"config", "owner"}
        options = {key: value for key, value in raw.items() if key not in envelope}
        return {key: raw[key] for key in raw if key in envelope} | {"config": options}

    @field_validator("config", mode="plain")
    @classmethod
    def _validate_options(cls, options: Any, info: ValidationInfo) -> Any:
        registry: PluginRegistry = (info.context or {})["registry"]
        if "use" not in info.data:
            return None
        if not info.data["use"] and cls.alone is not None:
            cls.alone.model_validate(options)
            return None
        try:
            component = registry.find(cls.kind, info.data["use"])
            model = component.load_config()
        except PluginError as error:
            raise PydanticCustomError(
                "plugin", "{message}", {"message": error.message, "remedy": error.remedy}
            ) from None
        return model.model_validate(options, context=info.context)

    @model_validator(mode="after")
    def _name_owner(self, info: ValidationInfo) -> ComponentBlock:
        if self.use or self.alone is None:
            registry: PluginRegistry = (info.context or {})["registry"]
            object.__setattr__(self, "owner", registry.find(self.kind, self.use).owner)
        return self

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        left_out = ("owner", "config") if self.use else ("use", "owner", "config")
        envelope = {key: value for key, value in handler(self).items() if key not in left_out}
        return envelope | (self.config.model_dump(mode="json") if self.config is not None else {})

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {BLOCK_MARK: cls.__name__}


class DatasetBlock(ComponentBlock):
    kind = "dataset"


class DetectorBlock(ComponentBlock):
    kind = "detector"


class AlignerBlock(ComponentBlock):
    kind = "aligner"


class OcclusionBlock(ComponentBlock):
    kind = "occlusion"


class BackboneBlock(ComponentBlock):
    kind = "backbone"


class LossBlock(ComponentBlock):
    kind = "loss"
    weight: float = Field(1.0, description="factor of this term in the sum")


class GeneratorBlock(ComponentBlock):
    kind = "generator"


class MatcherBlock(ComponentBlock):
    kind = "matcher"


class ProtocolBlock(ComponentBlock):
    kind = "protocol"


class TrackerBlock(ComponentBlock):
    kind = "tracker"


class _NoEngine(Config):
    use: str = ""
    processes: int = 1


class EngineBlock(ComponentBlock):
    kind = "engine"
    alone = _NoEngine
    use: str = ""
    processes: int = Field(
        1, ge=1, le=1024, description="that train side by side on this host, one a GPU; `torchrun` starts them"
    )


class Reference(str):
    """The name of what the ``data`` section or an earlier step provides: ``faces``, ``faces.train``, ``recogniser``.

    A value with a slash is the directory of a step in another run, e.g. ``runs/quickstart/recogniser``.
    """

    kind: ClassVar[str]

    @property
    def is_external(self) -> bool:
        return "/" in self

    @property
    def head(self) -> str:
        """The data set or step without the part: ``faces`` of ``faces.train``; only the last name of a path has one."""
        folder, slash, name = self.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def part(self) -> str:
        return self.rpartition("/")[2].partition(".")[2]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))


class FileRef(str):
    """A file that a configuration names: a path, a URL or ``registry:NAME``. A step runs again when it changed."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))


def walk(value: Any) -> Iterator[Any]:
    """A validated configuration and everything inside it: models, blocks, references, files and plain values."""
    yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from walk(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from walk(item)


class DataRef(Reference):
    kind = "dataset"


class ModelRef(Reference):
    kind = "model"


class GeneratorRef(Reference):
    kind = "generator"


class EmbeddingsRef(Reference):
    kind = "embeddings"


class IndexRef(Reference):
    kind = "index"


class HitsRef(Reference):
    kind = "hits"


class EvaluationRef(Reference):
    kind = "evaluation"


@dataclass(frozen=True)
class BuildContext:
    """What a factory may learn beyond its own configuration. None where the caller does not know it.

    device: a torch device string. seed: of this run and step. num_identities: training classes.
    embedding_dim: D of the backbone a loss term sits on. image_spec: of the model that will see the images.
    """

    registry: PluginRegistry
    device: str = "cpu"
    seed: int = 0
    num_identities: int | None = None
    embedding_dim: int | None = None
    image_spec: ImageSpec | None = None

    def build(self, block: ComponentBlock, **known: Any) -> Any:
        """Build the component a block names; ``known`` replaces fields of this context for it."""
        component = self.registry.find(block.kind, block.use)
        return component.load_factory()(block.config, replace(self, **known))
