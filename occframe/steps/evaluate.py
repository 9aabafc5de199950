"""Step ``evaluate``: the same protocols over every condition of the probes, clean and occluded side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from occframe.component import BuildContext, Config, EmbeddingsRef, HitsRef, ProtocolBlock
from occframe.config import Name
from occframe.errors import Interrupted, OccframeError
from occframe.step import Artefact, StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    from occframe.types import EmbeddingTable, Hits, ProtocolResult

# No dots: a metric is called protocol.condition.figure.
Condition = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]


class SweptConditions(Config):
    """Conditions that differ in one quantity."""

    axis: str = Field("severity", min_length=1, max_length=40, description="what is swept, as the axis of a chart")
    side: Literal["probe", "gallery", "both"] = Field("probe", description="whose faces it changes")
    points: dict[Condition, float] = Field(min_length=2, description="the quantity under each condition")


class EvaluateConfig(StepConfig):
    produces = "evaluation"

    reference: EmbeddingsRef = Field(description="enrolled faces; the first image of every pair")
    probes: dict[Condition, EmbeddingsRef] = Field(
        min_length=1, description="faces compared with them, by condition, e.g. {clean: …, occluded: …}"
    )
    references: dict[Condition, EmbeddingsRef] = Field(
        {}, description="enrolled faces under some conditions instead of `reference`, e.g. a gallery that is occluded"
    )
    distractors: EmbeddingsRef | None = Field(
        None, description="faces of other people, enrolled besides where a protocol asks for distractors"
    )
    sweeps: dict[Name, SweptConditions] = Field(
        {}, description="conditions that differ in one quantity only, for charts of figures over it"
    )
    hits: dict[Condition, HitsRef] = Field(
        {}, description="what a search step found for each condition; without it identification searches exactly"
    )
    protocols: list[ProtocolBlock] = Field(min_length=1, description="what to measure")

    @model_validator(mode="after")
    def _same_conditions(self) -> EvaluateConfig:
        named = {"references": list(self.references)}
        named |= {f"sweeps.{name}": list(item.points) for name, item in self.sweeps.items()}
        for key, conditions in named.items():
            if unknown := sorted(set(conditions) - set(self.probes)):
                raise PydanticCustomError(
                    "conditions",
                    "`{key}` names {unknown}, `probes` has the conditions {probes}",
                    {"key": key, "unknown": ", ".join(unknown), "probes": ", ".join(self.probes)},
                )
        if self.hits and (self.references or self.distractors):
            raise PydanticCustomError(
                "conditions", "`hits` are of a search in `reference`; leave out `references` and `distractors`"
            )
        if self.hits and self.hits.keys() != self.probes.keys():
            raise PydanticCustomError(
                "conditions",
                "`hits` has the conditions {hits}, `probes` has {probes}",
                {"hits": ", ".join(self.hits), "probes": ", ".join(self.probes)},
            )
        return self


class EvaluateStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.evaluation.figures import side_by_side
        from occframe.evaluation.results import Evaluation, Sweep, save_evaluation
        from occframe.evaluation.tables import with_distractors
        from occframe.steps.face_columns import read_table

        config: EvaluateConfig = context.config
        enrolled = context.artefact(config.reference)
        references = {condition: context.artefact(name) for condition, name in config.references.items()}
        artefacts = {condition: context.artefact(name) for condition, name in config.probes.items()}
        distractors = context.artefact(config.distractors) if config.distractors else None
        _refuse_mixed_models(
            [enrolled, *references.values(), *artefacts.values(), *([distractors] if distractors else [])]
        )
        protocols = {name: context.build.build(block) for name, block in _named(config.protocols)}
        columns = list(dict.fromkeys(column for item in protocols.values() for column in getattr(item, "columns", ())))
        sides = {name: (references.get(name, enrolled), artefact) for name, artefact in artefacts.items()}
        read = _Tables(context, columns, [artefact for both in sides.values() for artefact in both])
        others = read_table(context, distractors, columns) if distractors else None
        results: dict[str, dict[str, ProtocolResult]] = {name: {} for name in protocols}
        with context.progress("evaluating", len(artefacts) * len(protocols), "protocols") as progress:
            for condition, (gallery, artefact) in sides.items():
                known, probe = read(gallery), read(artefact)
                hits = _read_hits(context.artefact(config.hits[condition]), probe) if config.hits else None
                for name, protocol in protocols.items():
                    if context.stop_requested():
                        raise Interrupted("stopped while evaluating", remedy="run the same command again")
                    progress.describe(f"{name}, {condition}")
                    wide = others is not None and getattr(protocol, "uses_distractors", False)
                    among = with_distractors(known, others) if wide and others is not None else known
                    results[name][condition] = protocol.evaluate(among, probe, hits)
                    progress.advance()
        sweeps = [
            Sweep(name, item.axis, item.side, sorted((value, condition) for condition, value in item.points.items()))
            for name, item in config.sweeps.items()
        ]
        evaluation = Evaluation(enrolled, artefacts, results, references, distractors, sweeps)
        save_evaluation(context.url, evaluation)
        return StepOutcome(
            outputs={"": {"conditions": list(artefacts), "protocols": list(protocols)}},
            metrics=evaluation.metrics(),
            headlines=side_by_side({name: {c: r.metrics for c, r in of.items()} for name, of in results.items()}),
        )


class _Tables:
    """Reads tables; one that serves several conditions is kept until the last of them.

    artefacts: all that will be asked for, as often as they will be."""

    def __init__(self, context: StepContext, columns: Sequence[str], artefacts: Sequence[Artefact]) -> None:
        self._context, self._columns = context, columns
        self._uses = Counter(artefact.url for artefact in artefacts)
        self._kept: dict[str, EmbeddingTable] = {}

    def __call__(self, artefact: Artefact) -> EmbeddingTable:
        from occframe.steps.face_columns import read_table

        table = self._kept.pop(artefact.url, None) or read_table(self._context, artefact, self._columns)
        self._uses[artefact.url] -= 1
        if self._uses[artefact.url]:
            self._kept[artefact.url] = table
        return table


def _named(blocks: Sequence[ProtocolBlock]) -> Iterator[tuple[str, ProtocolBlock]]:
    """Each protocol under its own name; the second of the same name is ``verification-2``."""
    seen: dict[str, int] = {}
    for block in blocks:
        name = block.use.rpartition(":")[2]
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}-{seen[name]}"), block


def _refuse_mixed_models(artefacts: Sequence[Artefact]) -> None:
    from occframe.gallery import Gallery

    models = {artefact.name: Gallery.open(artefact.url).fingerprint for artefact in artefacts}
    if len(set(models.values())) > 1:
        listed = ", ".join(f"{name} by {fingerprint}" for name, fingerprint in models.items())
        raise OccframeError(
            f"the embeddings were made by different models: {listed}",
            remedy="embed references and probes with one model: cosines between two models' embeddings mean nothing",
        )


def _read_hits(artefact: Artefact, probe: EmbeddingTable) -> Hits:
    from occframe.gallery import read_hits

    found = read_hits(artefact)
    if found.probe_ids != list(probe.ids):
        raise OccframeError(
            f"the hits `{artefact.name}` are not of the probes they are evaluated with",
            remedy="name the same embeddings under the same condition in `search` and in `evaluate`",
        )
    return found.hits


def build(config: EvaluateConfig, context: BuildContext) -> EvaluateStep:
    return EvaluateStep()
