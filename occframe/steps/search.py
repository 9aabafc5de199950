"""Step ``search``: the nearest enrolled faces of every probe, for each condition the probes come in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from occframe.component import BuildContext, EmbeddingsRef, IndexRef, MatcherBlock
from occframe.errors import Interrupted, OccframeError
from occframe.step import Artefact, StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    import numpy as np

    from occframe.gallery import Gallery
    from occframe.gallery.searching import GallerySearcher
    from occframe.types import Matcher

#: Queries a search: enough for any matcher to work at full speed, few enough for the bar to move.
QUERIES = 1024

# No dots: an output is called search.condition.
Condition = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]


class SearchConfig(StepConfig):
    index: IndexRef = Field(description="the enrolled faces, made searchable")
    probes: dict[Condition, EmbeddingsRef] = Field(
        min_length=1, description="who is looked for, by condition, e.g. {clean: …, occluded: …}"
    )
    k: int = Field(20, ge=1, description="how many enrolled faces to find for each probe")
    original: dict[Condition, EmbeddingsRef] = Field(
        {},
        description="probes as they were before something was removed from them, for conditions whose `probes` are "
        "what is left; both are searched and their scores fused",
    )
    fusion: Literal["removed", "original", "max", "mean"] = Field(
        "mean",
        description="of the scores of a probe after removal and as `original`: either, the greater or the mean",
    )
    treatment: Literal["warn", "refuse"] = Field(
        "warn",
        description="what to do where the enrolled faces and the probes did not have the same removed from them",
    )

    @model_validator(mode="after")
    def _originals_of_probes(self) -> SearchConfig:
        if unknown := sorted(set(self.original) - set(self.probes)):
            raise ValueError(f"`original` has the condition {unknown[0]}, `probes` has {', '.join(self.probes)}")
        return self

    def outputs(self) -> Mapping[str, str]:
        return dict.fromkeys(self.probes, "hits")


class SearchStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.gallery import Gallery, HitsWriter
        from occframe.gallery.fusion import fused_search
        from occframe.gallery.prefetch import prefetch
        from occframe.storage import join

        config: SearchConfig = context.config
        index = context.artefact(config.index)
        galleries = {condition: Gallery.open(context.artefact(name).url) for condition, name in config.probes.items()}
        originals = {condition: Gallery.open(context.artefact(name).url) for condition, name in config.original.items()}
        for condition, gallery in [*galleries.items(), *originals.items()]:
            _refuse_another_model(index, condition, gallery.fingerprint)
        for condition, gallery in galleries.items():
            _compare_treatment(context, index, condition, gallery.schema.treatment)
        matcher = _load(index, context.build)
        if config.k > len(matcher):
            context.note(f"k is {config.k} and {len(matcher):,} faces are enrolled: the rest of every result is empty")
        total, seconds = sum(gallery.count for gallery in galleries.values()), 0.0
        with context.progress("searching", total, "probes") as progress:
            for condition, gallery in galleries.items():
                progress.describe(condition)
                before = _Originals(originals[condition], condition) if condition in originals else None
                with HitsWriter(join(context.url, _file(condition)), config.k) as writer:
                    for batch in prefetch(gallery.iter_batches()):
                        for start in range(0, len(batch.ids), QUERIES):
                            ids = batch.ids[start : start + QUERIES]
                            began = time.monotonic()
                            queries = batch.vectors[start : start + QUERIES]
                            if before is None:
                                hits = matcher.search(queries, config.k)
                            else:
                                hits = fused_search(matcher, queries, before.of(ids), config.k, config.fusion)
                            seconds += time.monotonic() - began
                            writer.write(ids, hits)
                            progress.advance(len(ids))
                            if context.stop_requested():
                                raise Interrupted("stopped while searching", remedy="run the same command again")
        return StepOutcome(
            outputs={
                condition: {"file": _file(condition), "k": config.k, "count": gallery.count}
                for condition, gallery in galleries.items()
            },
            metrics={"probes": float(total), "probes_per_s": total / seconds if seconds else 0.0},
        )


def build(config: SearchConfig, context: object) -> SearchStep:
    return SearchStep()


def _file(condition: str) -> str:
    return f"hits-{condition}.parquet"


def _refuse_another_model(index: Artefact, condition: str, fingerprint: str) -> None:
    if fingerprint != index.meta["model_fingerprint"]:
        raise OccframeError(
            f"the probes `{condition}` were embedded by model {fingerprint}, "
            f"the index `{index.name}` holds embeddings of {index.meta['model_fingerprint']}",
            remedy="scores between two models mean nothing: embed probes and gallery with the same one",
        )


def _compare_treatment(context: StepContext, index: Artefact, condition: str, treatment: Mapping[str, str]) -> None:
    """Warn, or refuse, where probes and enrolled faces did not go through the same removal."""
    enrolled = index.meta.get("treatment", {})
    if dict(treatment) == enrolled:
        return

    def words(done: Mapping[str, str]) -> str:
        return ", ".join(f"{what} removed by {how}" for what, how in sorted(done.items())) or "nothing removed"

    message = (
        f"the probes `{condition}` had {words(treatment)}, the faces in the index `{index.name}` had {words(enrolled)}"
    )
    if context.config.treatment == "refuse":
        raise OccframeError(message, remedy="treat both alike, or write `treatment: warn`")
    context.note(message)


class _Originals:
    """Probes before something was removed from them, by id; held in memory, four bytes a number."""

    def __init__(self, gallery: Gallery, condition: str) -> None:
        table = gallery.read()
        self._vectors = table.vectors
        self._row_of = {name: row for row, name in enumerate(table.ids)}
        self._condition = condition

    def of(self, ids: list[str]) -> np.ndarray:
        """[n, D] float32, in the order of ``ids``."""
        if missing := [name for name in ids if name not in self._row_of]:
            raise OccframeError(
                f"the originals of the probes `{self._condition}` lack `{missing[0]}`",
                remedy="embed the same faces twice, with the glasses removed and without",
            )
        chosen: np.ndarray = self._vectors[[self._row_of[name] for name in ids]]
        return chosen


def _load(index: Artefact, build: BuildContext) -> Matcher | GallerySearcher:
    """What the index step made, and what became of its gallery since: whoever was added or deleted meanwhile."""
    from occframe.gallery import Gallery
    from occframe.gallery.indexing import rerank_from
    from occframe.gallery.manifest import MANIFEST
    from occframe.gallery.searching import GallerySearcher, beside_of
    from occframe.gallery.snapshot import Snapshot
    from occframe.storage import exists, join

    block = MatcherBlock.model_validate(index.meta["matcher"], context={"registry": build.registry})
    matcher: Matcher = build.build(block, embedding_dim=index.meta["dim"])
    library = getattr(matcher, "library", None)
    if library != index.meta["library"]:
        raise OccframeError(
            f"the index `{index.name}` was written by {index.meta['library']}, this is {library}",
            remedy="run the `index` step again",
        )
    matcher.load(index.url)
    source = index.meta["gallery"]
    if not exists(join(source["url"], MANIFEST)):
        return matcher  # an index that was moved without its gallery is still good for searching
    gallery, snapshot = Gallery.open(source["url"]), Snapshot.model_validate(index.meta["snapshot"])
    if gallery.changes_since(snapshot) is None:
        raise OccframeError(
            f"the gallery `{source['name']}` was compacted or replaced since the index `{index.name}` was built of it",
            remedy="run the `index` step again",
        )
    rerank_from(matcher, gallery, snapshot)
    return GallerySearcher(
        gallery, matcher, snapshot, lambda: beside_of(matcher, block, build, gallery.dim), index.name
    )
