"""Something taken off faces by a generator before they are recognised: glasses, after US 11403876 B2.

The published method: recognise whether the face wears glasses; if so remove them with the model; match what comes out.
A face without glasses goes on unchanged, bit by bit. What is ours: the result is looked at again, and where it is no
face of the same person without glasses, the original goes on instead, with a word that says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from occframe.errors import OccframeError
from occframe.generators import LoadedGenerator, generate_images
from occframe.models import LoadedModel, embed_and_describe, embed_images
from occframe.precision import Precision

if TYPE_CHECKING:
    from occframe.types import ImageSpec

#: What became of a face. All but "removed" are the original, bit by bit: no glasses were seen, sunglasses are refused,
#: or the generator's picture had numbers that are none, another identity, or glasses still.
Outcome = Literal["removed", "no glasses", "refused sunglasses", "not finite", "identity lost", "still glasses"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

#: What a model must say of a face (``Backbone.columns``) to decide whether it wears glasses: probabilities.
GLASSES, SUNGLASSES = "glasses", "sunglasses"


@dataclass(frozen=True)
class Removed:
    """images: Tensor [B, 3, H, W] uint8 RGB. outcomes: B of ``OUTCOMES``.

    glasses, sunglasses: [B] float32, probabilities of the recogniser for the face as it came, NaN without one.
    identity: [B] float32, cosine between the face before and after, NaN where nothing was generated or asked.
    """

    images: Tensor
    outcomes: list[Outcome]
    glasses: Tensor
    sunglasses: Tensor
    identity: Tensor

    @property
    def synthesised(self) -> list[bool]:
        return [outcome == "removed" for outcome in self.outcomes]


@dataclass(frozen=True)
class Remover:
    """recogniser: a model with the columns ``glasses`` and ``sunglasses``; None: every face goes through the generator,
    and nothing is looked for afterwards. threshold: probability from which a face wears glasses. refuse_sunglasses:
    leave faces alone whose eyes are hidden, since what comes out there is invented. identity: a face recogniser, None:
    not asked; least_identity: the cosine below which a result is not used.
    """

    generator: LoadedGenerator
    recogniser: LoadedModel | None
    identity: LoadedModel | None = None
    threshold: float = 0.5
    refuse_sunglasses: bool = False
    least_identity: float = 0.3
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.recogniser is not None:
            check_tells_glasses(self.recogniser)

    @property
    def treatment(self) -> str:
        """A short name for everything that decides what becomes of a face: for manifests, to be compared."""
        decides = {
            "generator": self.generator.fingerprint,
            "recogniser": self.recogniser.fingerprint if self.recogniser else None,
            "identity": self.identity.fingerprint if self.identity else None,
            "options": [self.threshold, self.refuse_sunglasses, self.least_identity],
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return f"{self.generator.block.use.rpartition(':')[2]}-{digest[:12]}"

    def __call__(self, images: Tensor) -> Removed:
        """images: [B, 3, H, W] RGB uint8, aligned faces of any size, on any device; left unchanged.

        Everything comes back on the device of ``images``. The result for one face does not depend on the others.
        """
        device, count = images.device, len(images)
        outcomes: list[Outcome] = ["no glasses"] * count
        glasses, sunglasses, identity = (torch.full((count,), float("nan")) for _ in range(3))
        wearers = list(range(count))
        if self.recogniser is not None:
            seen = tell_glasses(self.recogniser, images, precision=self.precision)
            glasses, sunglasses = seen[GLASSES], seen[SUNGLASSES]
            wearers = [row for row in wearers if glasses[row] >= self.threshold]
            if self.refuse_sunglasses:
                dark = {row for row in wearers if sunglasses[row] * 2 >= glasses[row]}
                wearers = [row for row in wearers if row not in dark]
                for row in dark:
                    outcomes[row] = "refused sunglasses"
        if wearers:
            rows = torch.tensor(wearers, device=device)
            made, said, kept = self._generate(images[rows])
            identity[wearers] = kept
            good = [place for place, outcome in enumerate(said) if outcome == "removed"]
            if good:
                images = images.clone()
                images[rows[good]] = made[good].to(device)
            for row, outcome in zip(wearers, said, strict=True):
                outcomes[row] = outcome
        return Removed(images, outcomes, glasses, sunglasses, identity)

    def _generate(self, images: Tensor) -> tuple[Tensor, list[Outcome], Tensor]:
        """Pictures uint8 on the generator's device, what they are good for, and the cosine to the face as it came."""
        drawn = generate_images(self.generator, images, precision=self.precision).images
        finite = drawn.isfinite().flatten(1).all(1).cpu()
        made = drawn.nan_to_num().mul(255).round().clamp(0, 255).byte()
        kept = torch.full((len(images),), float("nan"))
        if self.identity is not None:
            spec = self.identity.image_spec
            before, after = (
                embed_images(self.identity, fit_faces(faces, spec), precision=self.precision)
                for faces in (images, made)
            )
            kept = (before * after).sum(1).cpu()
        still = torch.zeros(len(images))
        if self.recogniser is not None:
            still = tell_glasses(self.recogniser, made, precision=self.precision)[GLASSES]
        said: list[Outcome] = []
        for row in range(len(images)):
            if not finite[row]:
                said.append("not finite")
            elif kept[row] < self.least_identity:
                said.append("identity lost")
            elif still[row] >= self.threshold and self.recogniser is not None:
                said.append("still glasses")
            else:
                said.append("removed")
        return made, said, kept


def tell_glasses(recogniser: LoadedModel, images: Tensor, *, precision: Precision = "auto") -> dict[str, Tensor]:
    """Probabilities that each face wears ``glasses`` of any kind, and ``sunglasses``: [B] float32 on the CPU each.

    recogniser: one that ``check_tells_glasses`` passes. images: [B, 3, H, W] RGB, aligned faces of any size.
    """
    _, said = embed_and_describe(recogniser, fit_faces(images, recogniser.image_spec), precision=precision)
    return {name: said[name].float().cpu() for name in (GLASSES, SUNGLASSES)}


def check_tells_glasses(model: LoadedModel) -> None:
    """Raises OccframeError where the model does not say whether a face wears glasses."""
    columns: Mapping[str, str] = getattr(model.backbone, "columns", {})
    if not {GLASSES, SUNGLASSES} <= set(columns):
        raise OccframeError(
            f"`{model.block.use}` does not say whether a face wears glasses",
            remedy="name the model of a `train_glasses_recogniser` step; see pipelines/glasses-recogniser.yaml",
        )


def fit_faces(images: Tensor, spec: ImageSpec) -> Tensor:
    """Aligned faces in another size: scaled with the height, then cut or filled from the border across the width, as
    the ArcFace template is laid into a picture. [B, 3, H, W], dtype kept."""
    if images.shape[2:] == (spec.height, spec.width):
        return images
    height, width = images.shape[2:]
    wide = max(1, round(width * spec.height / height))
    scaled = F.interpolate(images.float(), (spec.height, wide), mode="bilinear", align_corners=False, antialias=True)
    missing = spec.width - wide
    if missing:
        left = missing // 2
        scaled = F.pad(scaled, (max(left, 0), max(missing - left, 0), 0, 0), mode="replicate")
        start = max(-left, 0)
        scaled = scaled[:, :, :, start : start + spec.width]
    return scaled.round().clamp(0, 255).byte() if images.dtype == torch.uint8 else scaled
