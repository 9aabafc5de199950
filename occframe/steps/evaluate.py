"""Step ``evaluate``: the same protocols over every condition of the probes, clean and occluded side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from occframe.component import BuildContext, EmbeddingsRef, HitsRef, ProtocolBlock
from occframe.errors import Interrupted, OccframeError
from occframe.step import Artefact, StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    from occframe.types import EmbeddingTable, Hits, ProtocolResult

# No dots: a metric is called protocol.condition.figure.
Condition = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]


class EvaluateConfig(StepConfig):
    produces = "evaluation"

    reference: EmbeddingsRef = Field(description="enrolled faces; the first image of every pair")
    probes: dict[Condition, EmbeddingsRef] = Field(
        min_length=1, description="faces compared with them, by condition, e.g. {clean: …, occluded: …}"
    )
    hits: dict[Condition, HitsRef] = Field(
        {}, description="what a search step found for each condition; without it identification searches exactly"
    )
    protocols: list[ProtocolBlock] = Field(min_length=1, description="what to measure")

    @model_validator(mode="after")
    def _same_conditions(self) -> EvaluateConfig:
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
        from occframe.evaluation.results import Evaluation, save_evaluation

        config: EvaluateConfig = context.config
        reference_artefact = context.artefact(config.reference)
        artefacts = {condition: context.artefact(name) for condition, name in config.probes.items()}
        _refuse_mixed_models([reference_artefact, *artefacts.values()])
        reference = _read_table(reference_artefact)
        protocols = {name: context.build.build(block) for name, block in _named(config.protocols)}
        results: dict[str, dict[str, ProtocolResult]] = {name: {} for name in protocols}
        with context.progress("evaluating", len(artefacts) * len(protocols), "protocols") as progress:
            for condition, artefact in artefacts.items():
                probe = reference if artefact.url == reference_artefact.url else _read_table(artefact)
                hits = _read_hits(context.artefact(config.hits[condition]), probe) if config.hits else None
                for name, protocol in protocols.items():
                    if context.stop_requested():
                        raise Interrupted("stopped while evaluating", remedy="run the same command again")
                    progress.describe(f"{name}, {condition}")
                    results[name][condition] = protocol.evaluate(reference, probe, hits)
                    progress.advance()
        evaluation = Evaluation(reference_artefact, artefacts, results)
        save_evaluation(context.url, evaluation)
        return StepOutcome(
            outputs={"": {"conditions": list(artefacts), "protocols": list(protocols)}},
            metrics=evaluation.metrics(),
            headlines=side_by_side({name: {c: r.metrics for c, r in of.items()} for name, of in results.items()}),
        )


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


def _read_table(artefact: Artefact) -> EmbeddingTable:
    from occframe.gallery import Gallery

    return Gallery.open(artefact.url).read()


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
