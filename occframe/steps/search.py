"""Step ``search``: the nearest enrolled faces of every probe, for each condition the probes come in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from occframe.component import EmbeddingsRef, IndexRef, MatcherBlock
from occframe.errors import Interrupted, OccframeError
from occframe.step import Artefact, StepConfig, StepContext, StepOutcome

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

    def outputs(self) -> Mapping[str, str]:
        return dict.fromkeys(self.probes, "hits")


class SearchStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.gallery import Gallery, HitsWriter
        from occframe.gallery.prefetch import prefetch
        from occframe.storage import join

        config: SearchConfig = context.config
        index = context.artefact(config.index)
        galleries = {condition: Gallery.open(context.artefact(name).url) for condition, name in config.probes.items()}
        for condition, gallery in galleries.items():
            _refuse_another_model(index, condition, gallery.fingerprint)
        _refuse_stale(index)
        block = MatcherBlock.model_validate(index.meta["matcher"], context={"registry": context.build.registry})
        matcher = context.build.build(block, embedding_dim=index.meta["dim"])
        matcher.load(index.url)
        if config.k > len(matcher):
            context.note(f"k is {config.k} and {len(matcher):,} faces are enrolled: the rest of every result is empty")
        total, seconds = sum(gallery.count for gallery in galleries.values()), 0.0
        with context.progress("searching", total, "probes") as progress:
            for condition, gallery in galleries.items():
                progress.describe(condition)
                with HitsWriter(join(context.url, _file(condition)), config.k) as writer:
                    for batch in prefetch(gallery.iter_batches()):
                        for start in range(0, len(batch.ids), QUERIES):
                            ids = batch.ids[start : start + QUERIES]
                            began = time.monotonic()
                            hits = matcher.search(batch.vectors[start : start + QUERIES], config.k)
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


def _refuse_stale(index: Artefact) -> None:
    """An index from before somebody was deleted would still find them."""
    from occframe.gallery import Gallery
    from occframe.gallery.manifest import MANIFEST
    from occframe.storage import exists, join

    gallery = index.meta["gallery"]
    if not exists(join(gallery["url"], MANIFEST)):
        return  # an index that was moved without its gallery is still good for searching
    if Gallery.open(gallery["url"]).content_hash != gallery["content_hash"]:
        raise OccframeError(
            f"the gallery `{gallery['name']}` has changed since the index `{index.name}` was built of it",
            remedy="run the `index` step again",
        )
