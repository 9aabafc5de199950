"""Step ``index``: embeddings become something that can be searched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from occframe.component import EmbeddingsRef, MatcherBlock
from occframe.errors import Interrupted
from occframe.step import StepConfig, StepContext, StepOutcome

if TYPE_CHECKING:
    from occframe.gallery import Gallery


class IndexConfig(StepConfig):
    produces = "index"

    gallery: EmbeddingsRef = Field(description="the enrolled faces")
    matcher: MatcherBlock = Field(description="how they are searched")


class IndexStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.gallery import Gallery

        config: IndexConfig = context.config
        artefact = context.artefact(config.gallery)
        gallery = Gallery.open(artefact.url)
        began = time.monotonic()
        with context.progress("indexing", gallery.count, "embeddings") as progress:

            def advance(rows: int) -> None:
                progress.advance(rows)
                if context.stop_requested():
                    raise Interrupted("stopped while indexing", remedy="run the same command again")

            make = _in_shares if context.engine.workers else _whole
            made = make(context, gallery, advance)
        seconds = time.monotonic() - began
        meta = {
            "matcher": config.matcher.model_dump(mode="json"),
            "gallery": {"name": artefact.name, "url": artefact.url, "content_hash": gallery.content_hash},
            "snapshot": gallery.snapshot.model_dump(mode="json"),
            "model_fingerprint": gallery.fingerprint,
            "treatment": gallery.schema.treatment,
            "dim": gallery.dim,
            "count": gallery.count,
            **made,
        }
        return StepOutcome(outputs={"": meta}, metrics={"embeddings": float(gallery.count), "seconds": seconds})


def _whole(context: StepContext, gallery: Gallery, advance: Callable[[int], None]) -> dict[str, Any]:
    from occframe.gallery.indexing import build_matcher

    matcher = build_matcher(gallery, context.config.matcher, context.build, advance)
    matcher.save(context.url)
    return {"library": getattr(matcher, "library", None)}


def _in_shares(context: StepContext, gallery: Gallery, advance: Callable[[int], None]) -> dict[str, Any]:
    """One a worker."""
    from occframe.gallery.sharding import ShardedIndex, even_edges

    engine, block = context.engine, context.config.matcher
    edges = even_edges(gallery.count, max(1, min(engine.workers, gallery.count)))
    build = replace(context.build, device=engine.device or context.device)
    ShardedIndex.of(build, block, context.url, gallery.url, gallery.snapshot, edges).build_all(engine, advance)
    return {"library": getattr(context.build.build(block, embedding_dim=gallery.dim), "library", None), "shares": edges}


def build(config: IndexConfig, context: object) -> IndexStep:
    return IndexStep()
