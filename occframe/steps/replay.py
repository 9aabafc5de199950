"""The pictures behind embeddings, exactly as the model was given them: for contact sheets and looking at mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from occframe.component import OcclusionBlock
from occframe.errors import OccframeError
from occframe.step import Artefact, StepContext
from occframe.types import FaceBatch, ImageSpec

if TYPE_CHECKING:
    from torch import Tensor


def replay_faces(context: StepContext, artefact: Artefact, ids: Sequence[str]) -> FaceBatch:
    """One image an id, in the order of ``ids``, on the CPU: uint8, with ``clean``, and ``mask`` where it was occluded.

    artefact: embeddings of this pipeline. ``index`` holds rows of its data set.
    Raises OccframeError: the data set is not the one that was embedded, or a picture is no longer there.
    """
    import torch

    from occframe.data import Quarantine, Subset
    from occframe.steps.embedder import face_loader

    meta = artefact.meta
    faces = context.dataset(str(meta["data"]))
    if faces.fingerprint() != meta["data_fingerprint"]:
        raise OccframeError(
            f"`{meta['data']}` is not the data that `{artefact.name}` was made of, so its pictures cannot be shown",
            remedy="run the pipeline that made these embeddings, or embed again",
        )
    row_of = {name: row for row, name in enumerate(faces.ids)}
    if unknown := [name for name in ids if name not in row_of]:
        raise OccframeError(f"`{meta['data']}` has no picture `{unknown[0]}`", remedy="embed again")
    spec = TypeAdapter(ImageSpec).validate_python(meta["image_spec"])
    if not ids:
        nothing = torch.empty(0, 3, spec.height, spec.width, dtype=torch.uint8)
        return FaceBatch(nothing, torch.empty(0, dtype=torch.int64), clean=nothing)
    occlusion = None
    if meta["occlusion"] is not None:
        occlusion = OcclusionBlock.model_validate(meta["occlusion"], context={"registry": context.build.registry})
    wanted = sorted({row_of[name] for name in ids})
    quarantine = Quarantine(share=1.0)
    loader = face_loader(
        context,
        Subset(faces, wanted),
        spec,
        occlusion,
        int(meta["occlusion_seed"]),
        quarantine,
        batch_size=64,
        keep_clean=True,
        grey=bool(meta.get("grey")),
    )
    batches = list(loader.epoch(0))
    if quarantine:
        raise OccframeError(f"pictures of `{meta['data']}` can no longer be read: {quarantine.summary()}")
    place_of = {row: place for place, row in enumerate(wanted)}
    places = torch.tensor([place_of[row_of[name]] for name in ids])

    def gather(name: str) -> Tensor | None:
        parts = [getattr(batch, name) for batch in batches]
        return None if parts[0] is None else torch.cat(parts)[places]

    images = torch.cat([batch.images for batch in batches])[places]
    return FaceBatch(
        images=_restored(context, meta, images) if meta.get("removal") else images,
        index=torch.tensor(wanted)[places],
        landmarks=gather("landmarks"),
        mask=gather("mask"),
        clean=gather("clean"),
    )


def _restored(context: StepContext, meta: Mapping[str, Any], images: Tensor) -> Tensor:
    from occframe.models import load_model
    from occframe.steps.restore import RemovalConfig, build_remover

    model = load_model(context.artefact(str(meta["model"])).url, context.build)
    remover = build_remover(context, RemovalConfig.model_validate(meta["removal"]), "auto", identity=model)
    return remover(images).images
