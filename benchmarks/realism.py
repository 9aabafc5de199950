"""Can a small network tell our glasses from real ones? AUC 0.5: it cannot; 1.0: always.

Real: the wearers of a Parquet file of faces with an ``eyeglasses`` column (../shared has one). Synthetic: people of the
same file without glasses, of the same sex and age, wearing ours. Train and test people are disjoint, and each half is
tested once. Wearers of dark lenses are told from others by how dark the eyes and the skin below them are.

Who wears glasses differs from who does not, whatever is drawn: the control hides the band around the eyes from the
network, so that its AUC is what people and pictures alone give away. Lower is better down to that.

    python benchmarks/realism.py ../shared/data/celeba112_colour.parquet --out benchmarks/results/realism.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from occframe.component import OcclusionBlock
from occframe.data import ParquetFaces, load_faces
from occframe.face_frame import face_frame
from occframe.random import derive_seed
from occframe.standalone import parse_block, standalone_context
from occframe.types import FaceBatch

EPOCHS, BATCH = 14, 32
#: Median brightness over the cheeks' below which lenses count as dark: of the eyes, and of the skin right below them,
#: without which dark eyes behind clear lenses would count as well. Around 0.5 few wearers have the latter.
DARK_EYES, DARK_BELOW = 0.42, 0.5


class Detector(nn.Module):
    """Four strided convolutions; its field of view of 61 pixels holds both lenses' worth of detail."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 1))

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] float 0..1 -> [B]
        return self.layers(images * 2 - 1)[:, 0]


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, places = np.unique(scores[order], return_inverse=True)
    counts = np.bincount(places)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positive = labels[order] > 0
    above = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / (positive.sum() * (~positive).sum()))


def detect(images: Tensor, labels: Tensor, folds: np.ndarray, seed: int) -> float:
    """Mean AUC over the folds, each scored by a network that saw the others only. images: uint8 [N, 3, H, W]."""
    found = []
    for fold in np.unique(folds):
        torch.manual_seed(derive_seed(seed, int(fold)) % 2**31)
        train, test = torch.from_numpy(np.flatnonzero(folds != fold)), torch.from_numpy(np.flatnonzero(folds == fold))
        model = Detector().to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
        steps = EPOCHS * (len(train) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for _ in range(EPOCHS):
            order = train[torch.randperm(len(train))]
            for start in range(0, len(order) - BATCH + 1, BATCH):
                rows = order[start : start + BATCH]
                inputs = images[rows].float() / 255
                mirrored = torch.rand(len(rows)) < 0.5
                inputs[mirrored] = inputs[mirrored].flip(3)
                loss = nn.functional.binary_cross_entropy_with_logits(model(inputs), labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        model.eval()
        with torch.inference_mode():
            scores = [model(images[rows].float() / 255) for rows in test.split(128)]
        found.append(auc(torch.cat(scores).numpy(), labels[test].numpy()))
    return float(np.mean(found))


def dark_lenses(images: Tensor, landmarks: Tensor) -> np.ndarray:
    """Which wearers' lenses are dark, bool [N]."""
    height, width = images.shape[2:]
    u, v = face_frame(landmarks, height, width).to_face(
        torch.arange(width, dtype=torch.float32)[None, None, :],
        torch.arange(height, dtype=torch.float32)[None, :, None],
    )
    grey = images.float().mean(1)
    dark = []
    for picture, across, down in zip(grey, u.abs(), v, strict=True):
        around = (across - 1).abs().le(0.45)
        eyes, below = (
            picture[around & down.abs().le(0.3)].median(),
            picture[around & (down - 0.32).abs().le(0.18)].median(),
        )
        cheeks = picture[around & (down - 1.3).abs().le(0.3)].median().clamp(min=1)
        dark.append(bool(eyes / cheeks < DARK_EYES and below / cheeks < DARK_BELOW))
    return np.array(dark)


def without_eyes(images: Tensor) -> Tensor:
    hidden = images.clone()
    hidden[:, :, 30:82] = 128
    return hidden


def matched(faces: ParquetFaces, wearers: np.ndarray, seed: int) -> np.ndarray:
    """As many rows without glasses, of people who never wear them, with the wearers' sex and age."""
    attributes, subjects = faces.attributes, np.array(faces.subjects)
    with_glasses = set(subjects[attributes["eyeglasses"].astype(bool)])
    free = np.array([name not in with_glasses for name in subjects]) & ~attributes["hat"].astype(bool)
    kind = attributes["male"].astype(int) * 2 + attributes["young"].astype(int)
    rng, rows = np.random.default_rng(seed), []
    for value in np.unique(kind[wearers]):
        choice = np.flatnonzero(free & (kind == value))
        rows.append(rng.choice(choice, int((kind[wearers] == value).sum()), replace=False))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("faces", help="a Parquet file of aligned 112 x 112 faces")
    parser.add_argument("--use", nargs="*", default=["glasses", "sunglasses"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path, help="a contact sheet, real above synthetic; show it to nobody")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    context = standalone_context()
    faces = ParquetFaces(arguments.faces, aligned=True)
    assert faces.landmarks is not None
    landmarks = torch.from_numpy(faces.landmarks)
    worn = np.flatnonzero(faces.attributes["eyeglasses"].astype(bool) & ~faces.attributes["hat"].astype(bool))
    photographs = torch.from_numpy(load_faces(faces, worn.tolist(), 112, 112)).permute(0, 3, 1, 2).contiguous()
    dark = dark_lenses(photographs, landmarks[worn])
    rows = []
    for use in arguments.use:
        wanted = dark if use == "sunglasses" else ~dark
        real, real_rows = photographs[torch.from_numpy(wanted)], worn[wanted]
        bare_rows = matched(faces, real_rows, arguments.seed)
        bare = torch.from_numpy(load_faces(faces, bare_rows.tolist(), 112, 112)).permute(0, 3, 1, 2).contiguous()
        batch = FaceBatch(images=bare, index=torch.from_numpy(bare_rows), landmarks=landmarks[bare_rows])
        generator = context.build(parse_block(OcclusionBlock, {"use": use}, context))
        seeds = torch.tensor([derive_seed(arguments.seed, row) for row in bare_rows.tolist()])
        ours = generator.apply(bare, generator.sample(batch, seeds)).images
        images = torch.cat([real, ours])
        labels = torch.cat([torch.ones(len(real)), torch.zeros(len(ours))])
        people = [faces.subjects[row] for row in (*real_rows, *bare_rows)]
        folds = np.array([derive_seed("fold", name) % 3 for name in people])
        row = {
            "generator": use,
            "version": generator.version,
            "seed": arguments.seed,
            "real": len(real),
            "synthetic": len(ours),
            "auc": round(detect(images, labels, folds, arguments.seed), 3),
            "control_auc": round(detect(without_eyes(images), labels, folds, arguments.seed), 3),
        }
        rows.append(row)
        print(row, flush=True)
        if arguments.sheet:
            save_sheet(arguments.sheet.with_stem(f"{arguments.sheet.stem}-{use}"), real, ours)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if arguments.out:
        result = {
            "date": date.today().isoformat(),
            "machine": machine,
            "faces": Path(arguments.faces).name,
            "rows": rows,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def save_sheet(path: Path, real: Tensor, ours: Tensor) -> None:
    import cv2

    rows = [images[start : start + 10] for start in (0, 10) for images in (real, ours)]
    rows = [np.hstack(list(images.permute(0, 2, 3, 1).numpy())) for images in rows if len(images) == 10]
    cv2.imwrite(str(path), np.ascontiguousarray(np.vstack(rows)[:, :, ::-1]))


if __name__ == "__main__":
    main()
