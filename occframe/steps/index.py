"""Step ``index``: embeddings become something that can be searched."""

from __future__ import annotations

import time

from pydantic import Field

from occframe.component import EmbeddingsRef, MatcherBlock
from occframe.errors import Interrupted
from occframe.step import StepConfig, StepContext, StepOutcome


class IndexConfig(StepConfig):
    produces = "index"

    gallery: EmbeddingsRef = Field(description="the enrolled faces")
    matcher: MatcherBlock = Field(description="how they are searched")


class IndexStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.gallery import Gallery
        from occframe.gallery.indexing import build_matcher

        config: IndexConfig = context.config
        artefact = context.artefact(config.gallery)
        gallery = Gallery.open(artefact.url)
        began = time.monotonic()
        with context.progress("indexing", gallery.count, "embeddings") as progress:

            def advance(rows: int) -> None:
                progress.advance(rows)
                if context.stop_requested():
                    raise Interrupted("stopped while indexing", remedy="run the same command again")

            matcher = build_matcher(gallery, config.matcher, context.build, advance)
        seconds = time.monotonic() - began
        matcher.save(context.url)
        meta = {
            "matcher": config.matcher.model_dump(mode="json"),
            "gallery": {"name": artefact.name, "url": artefact.url, "content_hash": gallery.content_hash},
            "snapshot": gallery.snapshot.model_dump(mode="json"),
            "library": getattr(matcher, "library", None),
            "model_fingerprint": gallery.fingerprint,
            "treatment": gallery.schema.treatment,
            "dim": gallery.dim,
            "count": gallery.count,
        }
        return StepOutcome(outputs={"": meta}, metrics={"embeddings": float(gallery.count), "seconds": seconds})


def build(config: IndexConfig, context: object) -> IndexStep:
    return IndexStep()
