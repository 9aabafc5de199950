"""Step ``sweep``: how far figures fall as more of the face is hidden: occlusions x severities x sides, any protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from occframe.component import BuildContext, DataRef, EmbeddingsRef, OcclusionBlock, ProtocolBlock, Reference
from occframe.errors import Interrupted
from occframe.step import Artefact, Progress, StepContext, StepOutcome
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.storage import exists, join, make_dirs, read_json, write_json

if TYPE_CHECKING:
    from occframe.types import Dataset, Engine

Side = Literal["probe", "gallery", "both"]
OcclusionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=20)]


class SweepConfig(EmbedConfig):
    """Options of ``embed`` hold for every embedding."""

    produces = "evaluation"

    reference: DataRef | None = Field(None, description="the faces enrolled; none: `data` on both sides")
    occlusions: dict[OcclusionName, OcclusionBlock] = Field(min_length=1, description="what covers the faces, by name")
    axis: str = Field("severity", description="the option of the generators that is swept")
    values: list[float] = Field(
        [0.2, 0.4, 0.6, 0.8, 1.0],
        min_length=2,
        max_length=50,
        description="of `axis`; where the option is a range, both of its ends",
    )
    sides: list[Side] = Field(
        ["probe"], min_length=1, description="whose faces are covered, one sweep each: probe, gallery, both"
    )
    distractors: EmbeddingsRef | None = Field(None, description="as in `evaluate`")
    protocols: list[ProtocolBlock] = Field(min_length=1, description="what to measure")

    @model_validator(mode="after")
    def _every_point_is_an_occlusion(self, info: ValidationInfo) -> SweepConfig:
        if self.occlusion is not None:
            raise PydanticCustomError("sweep", "a sweep takes `occlusions` (by name), not `occlusion`")
        if sorted(set(self.values)) != self.values or len(set(self.sides)) != len(self.sides):
            raise PydanticCustomError("sweep", "`values` must ascend, and each of `sides` stand once")
        for name, block in self.occlusions.items():
            for value in self.values:
                try:
                    at_value(block, self.axis, value, info.context)
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]
                    raise PydanticCustomError(
                        "sweep",
                        "`{use}` (occlusions.{name}) cannot have {axis} {value}: {reason}",
                        {
                            "use": block.use,
                            "name": name,
                            "axis": self.axis,
                            "value": f"{value:g}",
                            "reason": first["msg"],
                        },
                    ) from None
        return self


def point_name(sweep: str, value: float) -> str:
    """What the condition at one value is called: without a dot, which ends the names of figures."""
    return f"{sweep}-{value:g}".replace(".", "_")


def at_value(block: OcclusionBlock, axis: str, value: float, context: Any) -> OcclusionBlock:
    """The generator with its option ``axis`` set. Raises ValidationError: it has none, or not that far."""
    raw = block.model_dump(mode="json")
    try:
        return OcclusionBlock.model_validate(raw | {axis: value}, context=context)
    except ValidationError:
        if not isinstance(raw.get(axis), list):
            raise
        return OcclusionBlock.model_validate(raw | {axis: [value, value]}, context=context)


class SweepStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.steps.evaluate import EvaluateConfig, EvaluateStep

        config: SweepConfig = context.config
        gallery = config.reference or config.data
        embedded = _Embeddings(context)
        enrolled, probes = embedded.get(gallery, "clean", None), {"clean": embedded.get(config.data, "clean", None)}
        references: dict[str, str] = {}
        sweeps: dict[str, dict[str, Any]] = {}
        for (name, block), side in product(config.occlusions.items(), config.sides):
            sweep = name if side == "probe" else f"{name}-{side}"
            sweeps[sweep] = {"axis": config.axis, "side": side, "points": {}}
            for value in config.values:
                covered = at_value(block, config.axis, value, {"registry": context.build.registry})
                label = point_name(name, value)
                condition = label if side == "probe" else f"{label}-{side}"
                probes[condition] = probes["clean"] if side == "gallery" else embedded.get(config.data, label, covered)
                if side != "probe":
                    references[condition] = embedded.get(gallery, label, covered)
                sweeps[sweep]["points"][condition] = value
        evaluation = EvaluateConfig.model_validate(
            {
                "reference": enrolled,
                "probes": probes,
                "references": references,
                "distractors": config.distractors,
                "sweeps": sweeps,
                "protocols": [block.model_dump(mode="json") for block in config.protocols],
            },
            context={"registry": context.build.registry},
        )
        return EvaluateStep().run(_Part(context, context.name, evaluation, context.url, embedded.made))


def build(config: SweepConfig, context: BuildContext) -> SweepStep:
    return SweepStep()


@dataclass(frozen=True)
class _Embeddings:
    """One embed step in a folder of its own for all that is compared; those finished by an earlier attempt stay."""

    context: StepContext
    made: dict[str, Artefact] = field(default_factory=dict)

    def get(self, data: DataRef, label: str, occlusion: OcclusionBlock | None) -> str:
        """The name of the embeddings of ``data`` under ``occlusion``."""
        config: SweepConfig = self.context.config
        name = label if data == config.data else f"gallery-{label}"
        if name in self.made:
            return name
        if self.context.stop_requested():
            raise Interrupted("stopped between embeddings", remedy="run the same command again to go on")
        url = join(self.context.url, "embeddings", name)
        finished = join(url, "finished.json")
        if not exists(finished):
            options = {key: getattr(config, key) for key in EmbedConfig.model_fields}
            part = _Part(
                self.context,
                f"{self.context.name}, {name}",
                EmbedConfig.model_construct(**options | {"data": data, "occlusion": occlusion}),
                url,
            )
            make_dirs(url)
            write_json(finished, EmbedStep().run(part).outputs[""])
        self.made[name] = Artefact(name, "embeddings", url, read_json(finished))
        return name


class _Part:
    """The context of this step for another step that does a part of its work. Fulfils ``StepContext``."""

    def __init__(
        self, whole: StepContext, name: str, config: Any, url: str, artefacts: Mapping[str, Artefact] | None = None
    ) -> None:
        self.name, self.config, self.url = name, config, url
        self.seed, self.device, self.build = whole.seed, whole.device, whole.build
        self.profile = whole.profile
        self._whole, self._artefacts = whole, artefacts or {}

    @property
    def stop_requested(self) -> Callable[[], bool]:
        return self._whole.stop_requested

    @property
    def run_info(self) -> Mapping[str, Any]:
        return self._whole.run_info

    @property
    def engine(self) -> Engine:
        return self._whole.engine

    def dataset(self, reference: Reference | str) -> Dataset:
        return self._whole.dataset(reference)

    def artefact(self, reference: Reference | str) -> Artefact:
        return self._artefacts.get(str(reference)) or self._whole.artefact(reference)

    def progress(self, description: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        return self._whole.progress(f"{self.name}: {description}", total, unit)

    def track(self, figures: Mapping[str, float], step: int) -> None:
        self._whole.track(figures, step)

    def note(self, text: str) -> None:
        self._whole.note(f"{self.name}: {text}")
