"""What a network that masks features says of one face: where it saw an occlusion, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from occframe.errors import OccframeError
from occframe.gallery import Gallery
from occframe.images import to_model_input
from occframe.models import LoadedModel


@dataclass(frozen=True)
class Explanation:
    """embedding: array [D] float32, L2-normalised.

    heat: array [h, w] float32, share of the features that was taken away at each place, 0..1 (below 0 where the mask
    rose above 1); None where the mask lies on the embedding. box: occluded region (left, top, right, bottom) in pixels,
    right and bottom exclusive; None where the model saw none, or says nothing of it. pattern: its number, 0 for none.
    probability: of that pattern; None for a model that predicts corners.
    """

    embedding: np.ndarray
    heat: np.ndarray | None
    box: tuple[int, int, int, int] | None
    pattern: int | None
    probability: float | None


@dataclass(frozen=True)
class Match:
    """cosine: -1..1."""

    id: str
    subject: str
    cosine: float


def explain_face(model: LoadedModel, face: np.ndarray) -> Explanation:
    """face: array [H, W, 3] uint8 RGB of the model's size. model: loaded with ``purpose="explain"``.

    Raises OccframeError where the model has no mask to explain with.
    """
    images = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None].to(model.device)
    with torch.inference_mode():
        output = model.backbone(to_model_input(images, model.image_spec))
    extras = output.extras
    if "mask" not in extras:
        raise OccframeError(
            f"`{model.block.use}` does not say what it masks: only backbones with capability `mask_output` can explain",
            remedy="wrap it: `backbone: {use: from, trunk: …}`",
        )
    mask = extras["mask"][0].float()
    heat = (1 - mask.mean(0)).cpu().numpy() if mask.ndim == 3 else None
    said = {name: values[0].tolist() for name, values in model.backbone.describe(output).items()}
    pattern, probability = said.get("pattern"), said.get("pattern_probability")
    box = None
    if "occluded_left" in said:
        left, top, right, bottom = (int(said[f"occluded_{side}"]) for side in ("left", "top", "right", "bottom"))
        box = (left, top, right, bottom) if right > left and bottom > top else None
    return Explanation(F.normalize(output.embedding.float())[0].cpu().numpy(), heat, box, pattern, probability)


def nearest(gallery: Gallery, model: LoadedModel, embedding: np.ndarray, count: int) -> list[Match]:
    """The ``count`` nearest rows of a gallery that this model made, best first, by an exact search."""
    if gallery.fingerprint != model.fingerprint:
        raise OccframeError(
            f"the gallery {gallery.url} was embedded by another model", remedy="embed it with the model that explains"
        )
    best: list[Match] = []
    for batch in gallery.iter_batches():
        cosines = batch.vectors.astype(np.float32) @ embedding
        rows = np.argsort(-cosines, kind="stable")[:count]
        best += [Match(batch.ids[row], batch.subjects[row], float(cosines[row])) for row in rows]
        best = sorted(best, key=lambda match: (-match.cosine, match.id))[:count]
    return best
