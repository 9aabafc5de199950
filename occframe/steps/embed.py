"""Step ``embed``: every face of a data set through a model, into a gallery."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from occframe.component import DataRef, ModelRef, OcclusionBlock
from occframe.errors import Interrupted, OccframeError
from occframe.machine import default_threads, keep_freed_memory
from occframe.precision import Precision
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe.steps.restore import RemovalConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from occframe.data import FaceLoader, Quarantine
    from occframe.gallery import GalleryWriter
    from occframe.models import LoadedModel
    from occframe.steps.treatment import Treatment
    from occframe.types import Dataset, FaceBatch

#: What is embedded is committed this often at least, so that a kill costs no more.
COMMIT_SECONDS = 60.0


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
        from occframe.models import load_model
        from occframe.steps.restore import build_remover
        from occframe.steps.treatment import Treatment
        from occframe.storage import join

        config: EmbedConfig = context.config
        if context.device.startswith("cpu"):
            keep_freed_memory()
        faces = context.dataset(config.data)
        purpose: Literal["embed", "explain"] = "explain" if config.describe else "embed"
        model = load_model(context.artefact(config.model).url, context.build, purpose=purpose)
        columns = dict(getattr(model.backbone, "columns", {})) if config.describe else {}
        if config.describe and not columns:
            raise OccframeError(
                f"`{model.block.use}` says nothing of a face but its embedding",
                remedy="leave `describe` out, or use a backbone such as `from`",
            )
        if not faces.aligned:
            context.note(
                f"the faces of `{config.data}` are not aligned, only scaled and cut to size, which costs accuracy; "
                f"put an `align` step before this one"
            )
        remover = build_remover(context, config.removal, config.precision, identity=model) if config.removal else None
        treatment = Treatment(faces, remover)
        quarantine = Quarantine()
        schema = GallerySchema(
            dim=model.embedding_dim,
            dtype=config.dtype,
            model_fingerprint=model.fingerprint,
            image_spec=model.image_spec,
            columns=columns | treatment.columns,
            treatment=treatment.name,
        )
        with GalleryWriter(context.url, schema) as writer:
            rate = _embed(context, faces, model, treatment, writer, quarantine)
        if summary := quarantine.summary():
            context.note(summary)
        quarantine.write(join(context.url, "quarantine.jsonl"))
        gallery = Gallery.open(context.url)
        if not gallery.count:
            raise OccframeError(f"`{config.data}` has no face that could be read", remedy="check the data set")
        return StepOutcome(
            outputs={"": _meta(context, faces, model, treatment, gallery.content_hash, gallery.count, len(quarantine))},
            metrics={"embeddings": float(gallery.count), **({"images_per_s": rate} if rate else {})},
        )


def build(config: EmbedConfig, context: object) -> EmbedStep:
    return EmbedStep()


def face_loader(
    context: StepContext,
    faces: Dataset,
    spec: Any,
    occlusion: OcclusionBlock | None,
    seed: int,
    quarantine: Quarantine,
    *,
    batch_size: int,
    threads: int | None = None,
    keep_clean: bool = False,
    grey: bool = False,
) -> FaceLoader:
    """The pictures as a model is fed them. What covers an image follows from ``seed`` and its id alone, so any part of
    a data set, in any order and batch size, comes out the same: that is what resuming and replaying stand on."""
    from occframe.data import FaceLoader

    return FaceLoader(
        faces,
        height=spec.height,
        width=spec.width,
        batch_size=batch_size,
        threads=threads or default_threads(),
        seed=seed,
        occlusion=context.build.build(occlusion, image_spec=spec, device="cpu", seed=seed) if occlusion else None,
        keep_clean=keep_clean,
        grey=float(grey),
        quarantine=quarantine,
    )


def _embed(
    context: StepContext,
    faces: Dataset,
    model: LoadedModel,
    treatment: Treatment,
    writer: GalleryWriter,
    quarantine: Quarantine,
) -> float | None:
    """Embed what the gallery does not hold yet. Returns images per second, None where nothing was left to do."""
    from occframe.data import Subset
    from occframe.gallery.checks import check_new_ids

    config: EmbedConfig = context.config
    check_new_ids(faces.ids, set())
    done = writer.known(faces.ids)
    left = [row for row, name in enumerate(faces.ids) if name not in done]
    if len(left) < len(faces.ids):
        context.note(f"{len(faces.ids) - len(left):,} of {len(faces.ids):,} faces were embedded before; going on")
        if not left:
            return None
        # What could not be read the first time is all among what is left: it weighs as it did in the whole.
        quarantine.share *= len(faces.ids) / len(left)
        faces = Subset(faces, left)
    on_cpu = context.device.startswith("cpu")
    loader = face_loader(
        context,
        faces,
        model.image_spec,
        config.occlusion,
        config.occlusion_seed,
        quarantine,
        batch_size=config.batch_size or (32 if on_cpu else 256),
        # On a CPU the network keeps every core busy, and waits at each layer for one that was borrowed. On two cores
        # one thread costs MobileFaceNet 2 % of its rate, two cost 6 %, and one decodes 25 times what it takes.
        threads=config.threads or (max(1, default_threads() // 4) if on_cpu else default_threads()),
        grey=config.grey,
    )
    began = committed = time.monotonic()
    with context.progress("embedding", len(left), "images") as progress:
        treated = (treatment(batch, faces) for batch in loader.epoch(0))
        for rows, vectors, said in _forward(model, treated, config):
            writer.write([faces.ids[row] for row in rows], [faces.subjects[row] for row in rows], vectors, said)
            progress.advance(len(rows))
            if context.stop_requested():
                writer.commit()
                raise Interrupted("stopped while embedding", remedy="run the same command again to go on")
            if time.monotonic() - committed > COMMIT_SECONDS:
                writer.commit()
                committed = time.monotonic()
    return len(left) / (time.monotonic() - began)


def _forward(
    model: LoadedModel, batches: Iterable[tuple[FaceBatch, dict[str, list[Any]]]], config: EmbedConfig
) -> Iterator[tuple[list[int], np.ndarray, dict[str, list[Any]]]]:
    """Rows, embeddings [B, D] and what is said of each image, one batch late: a GPU works on the next one while this
    one is fetched and written. batches: with what is said of their images already."""
    from occframe.models import embed_and_describe

    def fetched(
        index: Tensor, vectors: Tensor, said: dict[str, Tensor], before: dict[str, list[Any]]
    ) -> tuple[list[int], np.ndarray, dict[str, list[Any]]]:
        columns = {name: values.tolist() for name, values in said.items()}
        return index.tolist(), vectors.cpu().numpy(), columns | before

    waiting = None
    for batch, before in batches:
        vectors, said = embed_and_describe(
            model, batch.images, precision=config.precision, flip=config.flip, describe=config.describe
        )
        if waiting is not None:
            yield fetched(*waiting)
        waiting = (batch.index, vectors, said, before)
    if waiting is not None:
        yield fetched(*waiting)


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
