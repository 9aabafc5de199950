"""Step ``search``: the nearest enrolled faces of every probe, for each condition the probes come in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from occframe.component import EmbeddingsRef, IndexRef, MatcherBlock
from occframe.errors import Interrupted, OccframeError
from occframe.step import Artefact, StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    import numpy as np

    from occframe.gallery import Gallery
    from occframe.gallery.fusion import Searchable
    from occframe.gallery.snapshot import Snapshot
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
        total, seconds = sum(gallery.count for gallery in galleries.values()), 0.0
        with _opened(index, context) as matcher, context.progress("searching", total, "probes") as progress:
            if config.k > len(matcher):
                context.note(
                    f"k is {config.k} and {len(matcher):,} faces are enrolled: the rest of every result is empty"
                )
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


@contextmanager
def _opened(index: Artefact, context: StepContext) -> Iterator[Searchable]:
    """What the index step made, and what became of its gallery since: whoever was added or deleted meanwhile."""
    from occframe.gallery import Gallery
    from occframe.gallery.manifest import MANIFEST
    from occframe.gallery.searching import GallerySearcher, beside_of
    from occframe.gallery.snapshot import Snapshot
    from occframe.storage import exists, join

    build, dim = context.build, index.meta["dim"]
    block = MatcherBlock.model_validate(index.meta["matcher"], context={"registry": build.registry})
    empty: Matcher = build.build(block, embedding_dim=dim)
    library = getattr(empty, "library", None)
    if library != index.meta["library"]:
        raise OccframeError(
            f"the index `{index.name}` was written by {index.meta['library']}, this is {library}",
            remedy="run the `index` step again",
        )
    source, snapshot = index.meta["gallery"], Snapshot.model_validate(index.meta["snapshot"])
    gallery = Gallery.open(source["url"]) if exists(join(source["url"], MANIFEST)) else None
    if gallery is not None and gallery.changes_since(snapshot) is None:
        raise OccframeError(
            f"the gallery `{source['name']}` was compacted or replaced since the index `{index.name}` was built of it",
            remedy="run the `index` step again",
        )
    with _loaded(index, context, block, empty, snapshot, gallery) as matcher:
        if gallery is None:
            yield matcher  # an index that was moved without its gallery is still good for searching
        else:
            yield GallerySearcher(gallery, matcher, snapshot, lambda: beside_of(empty, block, build, dim), index.name)


@contextmanager
def _loaded(
    index: Artefact,
    context: StepContext,
    block: MatcherBlock,
    empty: Matcher,
    snapshot: Snapshot,
    gallery: Gallery | None,
) -> Iterator[Searchable]:
    """The index: in this process where it is in one piece, else held by the workers of the engine, in shares."""
    from occframe.gallery.indexing import Share, rerank_from
    from occframe.gallery.sharding import ShardedIndex, ShardedMatcher

    if "shares" not in index.meta:
        empty.load(index.url)
        if gallery is not None:
            rerank_from(empty, gallery, Share(snapshot, 0, snapshot.count))
        yield empty
        return
    engine, source = context.engine, index.meta["gallery"]["url"]
    build = replace(context.build, device=engine.device or context.device)
    shares = ShardedIndex.of(build, block, index.url, source, snapshot, index.meta["shares"])
    with engine.start(shares.searchers(max(1, engine.workers))) as crew:
        yield ShardedMatcher(crew, snapshot.count)
