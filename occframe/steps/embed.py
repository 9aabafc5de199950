"""Step ``embed``: every face of a data set through a model, into a gallery."""

from __future__ import annotations

import time
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from occframe.component import DataRef, ModelRef, OcclusionBlock
from occframe.errors import Interrupted, OccframeError
from occframe.precision import Precision
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe.steps.embedder import Embedder, Recipe, recipe_of
from occframe.steps.restore import RemovalConfig

if TYPE_CHECKING:
    from occframe.data import Quarantine
    from occframe.gallery import GalleryWriter
    from occframe.models import LoadedModel
    from occframe.steps.treatment import Treatment
    from occframe.types import Dataset

#: What is embedded is committed this often at least, so that a kill costs no more.
COMMIT_SECONDS = 60.0
#: Batches that a worker elsewhere is given at a time: seconds of work, which a worker's death costs once more.
CHUNK_BATCHES = 16


class EmbedConfig(StepConfig):
    produces = "embeddings"

    data: DataRef = Field(description="the faces to embed")
    model: ModelRef = Field(description="the recogniser")
    occlusion: OcclusionBlock | None = Field(None, description="occludes every face first, the same way in every run")
    occlusion_seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="of the occlusions; part of the test, not of the run: whatever model or step embeds a face, "
        "the same seed and generator cover the same pixels, so that figures compare",
    )
    flip: bool = Field(
        False,
        description="add the embedding of the mirrored face, as in arcface_torch's flip test; twice the work",
    )
    grey: bool = Field(
        False, description="take the colours away, after occlusion, as if all had been photographed grey"
    )
    removal: RemovalConfig | None = Field(
        None,
        description="take glasses off, after any occlusion: `{generator: …, recogniser: …}`; what became of each face "
        "is stored with its embedding",
    )
    batch_size: int | None = Field(
        None, ge=1, description="images a forward pass, changes no result but by rounding; none: 32, on a GPU 256"
    )
    precision: Precision = Field("auto", description="of the forward pass: auto, fp32, bf16 or fp16 (CUDA only)")
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="how embeddings are stored; float16 does not change rankings measurably"
    )
    describe: bool = Field(
        False,
        description="store what the model says of each face as columns beside its embedding, such as the occlusion "
        "pattern that `from` saw",
    )
    threads: int | None = Field(
        None, ge=1, description="threads that decode and occlude; none: as many as cores, or on CPU a quarter of them"
    )


class EmbedStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data import Quarantine
        from occframe.gallery import Gallery, GallerySchema, GalleryWriter

        config: EmbedConfig = context.config
        faces = context.dataset(config.data)
        if not faces.aligned:
            context.note(
                f"the faces of `{config.data}` are not aligned, only scaled and cut to size, which costs accuracy; "
                f"put an `align` step before this one"
            )
        recipe = recipe_of(context, faces)
        embedder = (recipe.on("cpu") if context.engine.workers else recipe)()
        model, treatment = embedder.model, embedder.treatment
        quarantine = Quarantine()
        schema = GallerySchema(
            dim=model.embedding_dim,
            dtype=config.dtype,
            model_fingerprint=model.fingerprint,
            image_spec=model.image_spec,
            columns=embedder.columns | treatment.columns,
            treatment=treatment.name,
        )
        with GalleryWriter(context.url, schema) as writer:
            rate = _embed(context, recipe, embedder, writer, quarantine)
        quarantine.tell(context.note, context.url)
        gallery = Gallery.open(context.url)
        if not gallery.count:
            raise OccframeError(f"`{config.data}` has no face that could be read", remedy="check the data set")
        return StepOutcome(
            outputs={"": _meta(context, faces, model, treatment, gallery.content_hash, gallery.count, len(quarantine))},
            metrics={"embeddings": float(gallery.count), **({"images_per_s": rate} if rate else {})},
        )


def build(config: EmbedConfig, context: object) -> EmbedStep:
    return EmbedStep()


def _embed(
    context: StepContext, recipe: Recipe, embedder: Embedder, writer: GalleryWriter, quarantine: Quarantine
) -> float | None:
    """Embed what the gallery does not hold yet. Returns images per second, None where nothing was left to do."""
    import numpy as np

    from occframe.gallery.checks import check_new_ids

    faces, engine = recipe.faces, context.engine
    ids, subjects = faces.ids, faces.subjects
    check_new_ids(ids, set())
    done = writer.known(ids)
    left = np.array([row for row, name in enumerate(ids) if name not in done], np.int64)
    if len(left) < len(ids):
        context.note(f"{len(ids) - len(left):,} of {len(ids):,} faces were embedded before; going on")
        if not len(left):
            return None
        # What could not be read the first time is all among what is left: it weighs as it did in the whole.
        quarantine.share *= len(ids) / len(left)
    if engine.workers:
        away = recipe.on(engine.device or context.device)
        if context.device.startswith("cuda") and away.build.device == "cpu":
            context.note(f"this run is on {context.device}, the workers of its engine compute on CPUs")
        size = CHUNK_BATCHES * away.batch_size
        chunks = [left[start : start + size] for start in range(0, len(left), size)]
        makes: list[Any] = [away] * min(engine.workers, len(chunks))
    else:
        chunks = [left]
        makes = [lambda: partial(embedder.embed, quarantine=quarantine)]
    with context.progress("embedding", len(left), "images") as progress, engine.start(makes) as crew:
        began = committed = time.monotonic()
        for batch in chain.from_iterable(crew.map(chunks)):
            for name, bad in batch.unreadable.items():
                quarantine.add(name, bad)
            quarantine.check(len(left))
            if rows := batch.rows.tolist():
                writer.write([ids[row] for row in rows], [subjects[row] for row in rows], batch.vectors, batch.said)
            progress.advance(len(rows))
            if context.stop_requested():
                writer.commit()
                raise Interrupted("stopped while embedding", remedy="run the same command again to go on")
            if time.monotonic() - committed > COMMIT_SECONDS:
                writer.commit()
                committed = time.monotonic()
        for text in getattr(crew, "notes", ()):
            context.note(text)
    return len(left) / (time.monotonic() - began)


def _meta(
    context: StepContext,
    faces: Dataset,
    model: LoadedModel,
    treatment: Treatment,
    content_hash: str,
    count: int,
    quarantined: int,
) -> dict[str, Any]:
    """What ``replay_faces`` and later steps need to know."""
    from dataclasses import asdict

    config: EmbedConfig = context.config
    return {
        "data": str(config.data),
        "data_fingerprint": faces.fingerprint(),
        "model": str(config.model),
        "removal": config.removal.model_dump(mode="json") if config.removal else None,
        "occlusion": config.occlusion.model_dump(mode="json") if config.occlusion else None,
        "occlusion_seed": config.occlusion_seed,
        "image_spec": asdict(model.image_spec),
        "model_fingerprint": model.fingerprint,
        "treatment": treatment.name,
        "dim": model.embedding_dim,
        "flip": config.flip,
        "grey": config.grey,
        "count": count,
        "quarantined": quarantined,
        "content_hash": content_hash,
    }
