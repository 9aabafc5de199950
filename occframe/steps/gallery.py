"""Step ``gallery``: embeddings that were made elsewhere, a rival's for instance, take part in a run."""

from __future__ import annotations

from pydantic import Field, field_validator

from occframe.component import BuildContext, FileRef
from occframe.errors import Interrupted
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe.storage import join

MANIFEST = "manifest.json"


class GalleryStepConfig(StepConfig):
    produces = "embeddings"

    url: FileRef = Field(description="a gallery: a path or any fsspec URL; `occframe gallery import` makes one")

    @field_validator("url")
    @classmethod
    def _its_manifest(cls, url: FileRef) -> FileRef:
        """The file that changes with every commit: by it the runner sees that a gallery is another."""
        return url if url.endswith(f"/{MANIFEST}") else FileRef(join(url, MANIFEST))


class GalleryStep:
    def run(self, context: StepContext) -> StepOutcome:
        from dataclasses import asdict

        from occframe.gallery import Gallery, GalleryWriter

        config: GalleryStepConfig = context.config
        source = Gallery.open(config.url.removesuffix(f"/{MANIFEST}"))
        columns = list(source.schema.columns)
        with (
            GalleryWriter(context.url, source.schema) as writer,
            context.progress("copying", source.count, "embeddings") as progress,
        ):
            for batch in source.iter_batches(columns=columns):
                done = writer.known(batch.ids)  # by an attempt that was interrupted
                fresh = [at for at, id in enumerate(batch.ids) if id not in done]
                values = {name: [batch.columns[name][at] for at in fresh] for name in columns}
                writer.write(
                    [batch.ids[at] for at in fresh], [batch.subjects[at] for at in fresh], batch.vectors[fresh], values
                )
                progress.advance(len(batch.ids))
                if context.stop_requested():
                    writer.commit()
                    raise Interrupted("stopped while copying", remedy="run the same command again to go on")
        copy = Gallery.open(context.url)
        meta = {
            "model_fingerprint": copy.fingerprint,
            "dim": copy.dim,
            "count": copy.count,
            "content_hash": copy.content_hash,
            "image_spec": asdict(copy.schema.image_spec),
        }
        return StepOutcome(outputs={"": meta}, metrics={"embeddings": float(copy.count)})


def build(config: GalleryStepConfig, context: BuildContext) -> GalleryStep:
    return GalleryStep()
