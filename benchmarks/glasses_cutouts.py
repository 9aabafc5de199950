"""Real glasses cut out of photographs, for `face-sprites` to put on other faces: a Parquet file of RGBA pictures.

Nobody marked where the glasses are. A face as it would look without is guessed from principal components of bare
faces, fitted to what is not around the eyes (Park et al., "Glasses removal from facial image using recursive error
compensation", PAMI 2005, begin so); what differs from the guess by more than it does on bare faces, and hangs together,
is cut out. Of clear glasses that finds frames and reflections. Sunglasses hide what a guess could be held against, so
theirs is made of few components, and what is darker than it is filled.

The pictures are of faces, for the study alone: they stay beside its runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from occframe.data import FaceLoader, ParquetFaces
from occframe.face_frame import face_frame, template_landmarks
from occframe.models import LoadedModel
from occframe.removal import SUNGLASSES, tell_glasses

SIDE = 112
COMPONENTS = 160
#: For sunglasses.
FEW = 40
#: Bare faces whose differences from their guess say what is usual.
USUAL = 200
#: Fewest and most pixels of a usable cut-out.
LEAST, MOST = 70, 3000


@dataclass(frozen=True)
class Basis:
    """mean [P], components [P, K], variance [K] of brightness 0..1 of bare faces; rest [P], what they leave of it."""

    mean: Tensor
    components: Tensor
    variance: Tensor
    rest: Tensor

    def differences(self, faces: Tensor, eyes: Tensor, trust: float) -> Tensor:
        """[N, P]: each face less its guess, fitted again and again to what differs little; trust: 0..1, in the eyes."""
        found = []
        inverse = self.rest**-2
        trusted = torch.where(eyes, torch.tensor(trust), torch.tensor(1.0))
        for face in faces - self.mean:
            weight = trusted
            for _ in range(8):
                weighed = self.components * (weight * inverse)[:, None]
                at = torch.linalg.solve(self.components.T @ weighed + torch.diag(1 / self.variance), weighed.T @ face)
                left = face - self.components @ at
                weight = trusted / (1 + (left / self.rest / 1.5) ** 2) ** 2
            found.append(left)
        return torch.stack(found)


def read(url: Path) -> Tensor:
    """[N, 112, 112, 3] uint8 RGB."""
    loader = FaceLoader(ParquetFaces(str(url)), height=SIDE, width=SIDE, batch_size=64, threads=1, seed=0)
    return torch.cat([batch.images for batch in loader.epoch(0)]).permute(0, 2, 3, 1)


def brightness(faces: Tensor) -> Tensor:
    grey = [cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in faces.numpy()]
    return torch.from_numpy(np.stack(grey).astype(np.float32) / 255).flatten(1)


def bases(faces: Tensor, counts: Sequence[int]) -> list[Basis]:
    """One of so many components each; the first count is the largest."""
    torch.manual_seed(0)
    mean = faces.mean(0)
    left = faces - mean
    _, sizes, components = torch.svd_lowrank(left, q=counts[0], niter=2)
    found = []
    for count in counts:
        first = components[:, :count]
        rest = (left - left @ first @ first.T).square().mean(0).sqrt().clamp(min=0.02)
        found.append(Basis(mean, first, sizes[:count] ** 2 / len(faces), rest))
    return found


def around_eyes(u_reach: float, v_low: float, v_high: float) -> Tensor:
    """[112, 112] bool, in face units of the template."""
    frame = face_frame(template_landmarks(SIDE, SIDE)[None], SIDE, SIDE)
    y, x = torch.meshgrid(torch.arange(SIDE).float(), torch.arange(SIDE).float(), indexing="ij")
    u, v = frame.to_face(x[None], y[None])
    return ((u.abs() < u_reach) & (v > v_low) & (v < v_high))[0]


def connected(opacity: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """``opacity`` where it hangs together over 25 pixels or more, ten wide, and is ``strength`` > 1 somewhere."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((opacity > 0.3).astype(np.uint8), connectivity=8)
    strongest = np.zeros(count)
    np.maximum.at(strongest, labels, strength)
    kept = (stats[:, cv2.CC_STAT_AREA] >= 25) & (stats[:, cv2.CC_STAT_WIDTH] >= 10) & (strongest > 1)
    kept[0] = False
    return opacity * cv2.dilate(kept[labels].astype(np.uint8), np.ones((3, 3)))


def filled(dark: np.ndarray) -> np.ndarray:
    """[H, W] bool of dark pixels -> 0..1: lenses without their reflections' holes, with a soft edge."""
    closed = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((3, 3)))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.GaussianBlur(
        cv2.drawContours(np.zeros_like(opened), outlines, -1, 1, -1).astype(np.float32), (0, 0), 0.7
    )


def opacities(worn: Tensor, bare: Tensor, dark: np.ndarray) -> np.ndarray:
    """[N, 112, 112] 0..1. worn, bare: [N, 112, 112, 3] uint8. dark: [N] bool, which are sunglasses."""
    faces, known = brightness(worn), brightness(bare)
    many, few = bases(known, (COMPONENTS, FEW))
    eyes = around_eyes(2.7, -0.95, 1.25).flatten()

    def both(basis: Basis, trust: float, least: float, given: Tensor) -> tuple[np.ndarray, np.ndarray]:
        usual = basis.differences(known[:USUAL], eyes, trust).square().mean(0).sqrt().clamp(min=least)
        smooth = cv2.GaussianBlur(usual.view(SIDE, SIDE).numpy(), (0, 0), 2)
        return basis.differences(given, eyes, trust).view(-1, SIDE, SIDE).numpy(), smooth

    differences, usual = both(many, 0.15, 0.03, faces)
    darker, usual_dark = both(few, 1e-4, 0.06, faces[torch.from_numpy(dark)])
    lenses = dict(zip(np.flatnonzero(dark).tolist(), darker, strict=True))
    where = around_eyes(2.9, -1.05, 1.35).numpy()
    found = []
    for number, difference in enumerate(differences):
        strength = np.abs(difference) / usual
        opacity = np.clip((strength - 1.8) / (3.5 - 1.8), 0, 1)
        if number in lenses:
            opacity = np.maximum(opacity, filled(-lenses[number] > 1.7 * usual_dark))
        found.append(connected(opacity * where, strength / 4))
    return np.stack(found)


def cut_outs(data: Path, detector: LoadedModel) -> None:
    """Write ``cut-outs.parquet`` beside ``worn-train.parquet``, unless it is there."""
    target = data / "cut-outs.parquet"
    if not target.exists():
        worn, bare = read(data / "worn-train.parquet"), read(data / "bare-train.parquet")
        told = tell_glasses(detector, worn.permute(0, 3, 1, 2).contiguous())
        found = opacities(worn, bare, (told[SUNGLASSES] > 0.5).cpu().numpy())
        pictures = []
        for face, opacity in zip(worn.numpy(), found, strict=True):
            if LEAST <= opacity.sum() <= MOST:
                whole = np.dstack([face[:, :, ::-1], (opacity * 255).astype(np.uint8)])
                pictures.append(cv2.imencode(".png", whole)[1].tobytes())
        print(f"  glasses of {len(pictures)} of {len(worn)} faces cut out")
        pq.write_table(pa.table({"image": pictures}), target)
