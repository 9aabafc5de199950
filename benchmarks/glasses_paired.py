"""Removers on synthetic glasses, where the face beneath is known: a cell for each of both, kept as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from occframe.component import BuildContext, OcclusionBlock
from occframe.data import FaceLoader, ParquetFaces, Subset
from occframe.evaluation.image_quality import MOST_DB, psnr, ssim
from occframe.generators import LoadedGenerator, generate_images
from occframe.models import LoadedModel, embed_images
from occframe.random import derive_seed, id_seeds, mix
from occframe.removal import GLASSES, fit_faces, tell_glasses
from occframe.rundir import canonical
from occframe.types import EmbeddingTable, FaceBatch

#: Raised whenever a figure is computed otherwise: cells of another version are made anew.
VERSION = 1
SEED = 17
#: As many of the file's faces are measured, the first ones: in the order of the file, which knows no people.
FACES = 1024
ROUNDS = 500
KINDS: dict[str, dict[str, Any] | None] = {
    "clear": {"use": "glasses", "lenses": ["clear"]},
    "tinted": {"use": "glasses", "lenses": ["tinted", "gradient"]},
    "reflective": {"use": "glasses", "lenses": ["reflective"]},
    "opaque": {"use": "sunglasses", "lenses": ["dark"]},
    "none": None,
}

Remove = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Worn:
    """A batch with glasses on. images, clean: [B, 3, H, W] uint8. outside: bool [B, 1, H, W], untouched pixels.

    inside: bool, where it is measured: the pixels of the frame for clear lenses, of frame and lenses for others.
    """

    images: Tensor
    clean: Tensor
    inside: Tensor
    outside: Tensor
    rows: np.ndarray


class PairedTest:
    """Faces of people that no remover saw; ``detector`` says who wears glasses, ``evaluator`` who it is."""

    def __init__(
        self, url: Path, cells: Path, build: BuildContext, evaluator: LoadedModel, detector: LoadedModel
    ) -> None:
        whole = ParquetFaces(str(url))
        self._faces = Subset(whole, range(min(FACES, len(whole.ids))))
        self._cells = cells
        self._build = build
        self._evaluator = evaluator
        self._detector = detector
        self._worn: dict[str, list[Worn]] = {}
        cells.mkdir(parents=True, exist_ok=True)

    def cell(self, remover: str, kind: str, remove: Remove | LoadedGenerator | None) -> dict[str, Any]:
        """Figures with intervals over people; from its file where nothing they depend on changed."""
        depends = self._depends(remover, kind, remove)
        file = self._file(remover, kind, depends, "json")
        if not file.exists():
            figures = self._measure(kind, _remover(remove))
            file.write_text(json.dumps({"depends": depends, "figures": figures}, indent=2))
        found: dict[str, Any] = json.loads(file.read_text())["figures"]
        return found

    def _depends(self, remover: str, kind: str, remove: Remove | LoadedGenerator | None) -> dict[str, Any]:
        return {
            "version": VERSION,
            "remover": remove.fingerprint if isinstance(remove, LoadedGenerator) else remover,
            "glasses": KINDS[kind],
            "generator": self._version(kind),
            "faces": self._faces.fingerprint(),
            "models": [self._evaluator.fingerprint, self._detector.fingerprint],
        }

    def _file(self, remover: str, kind: str, depends: dict[str, Any], suffix: str) -> Path:
        digest = hashlib.sha256(canonical(depends)).hexdigest()[:16]
        return self._cells / f"{remover}-{kind}-{digest}.{suffix}"

    def embedded(
        self, remover: str, kind: str, remove: LoadedGenerator | None
    ) -> tuple[EmbeddingTable, EmbeddingTable]:
        """The faces with glasses, taken off where there is a remover, and without: as the evaluator sees them. The
        former are kept in a file as a cell is."""
        file = self._file(remover, kind, self._depends(remover, kind, remove), "npy")
        if not file.exists():
            way = _remover(remove)
            np.save(file, torch.cat([self._embed(way(worn.images, worn.inside)) for worn in self.worn(kind)]).numpy())
        ids, subjects = list(self._faces.ids), list(self._faces.subjects)
        worn, bare = (EmbeddingTable(ids, subjects, found) for found in (np.load(file), self._clean.numpy()))
        return worn, bare

    def _embed(self, images: Tensor) -> Tensor:
        return embed_images(self._evaluator, fit_faces(images, self._evaluator.image_spec)).cpu()

    def worn(self, kind: str) -> list[Worn]:
        """The faces with glasses of a kind, in batches, the same in every run."""
        if kind not in self._worn:
            self._worn[kind] = list(self._put_on_all(kind))
        return self._worn[kind]

    def _put_on_all(self, kind: str) -> Iterator[Worn]:
        occlusion = self._block(kind)
        # On the CPU whatever the networks are on, so that the pictures are the same everywhere.
        generator = BuildContext(self._build.registry).build(occlusion) if occlusion else None
        loader = FaceLoader(self._faces, height=112, width=112, batch_size=64, threads=1, seed=0)
        for batch in loader.epoch(0):
            yield self._put_on(batch, generator, kind)

    def _put_on(self, batch: FaceBatch, generator: Any, kind: str) -> Worn:
        rows = batch.index.numpy()
        everywhere = torch.ones(len(rows), 1, *batch.images.shape[2:], dtype=torch.bool)
        if generator is None:
            return Worn(batch.images, batch.images, everywhere, everywhere, rows)
        seeds = mix(derive_seed("glasses-study", SEED), 0, id_seeds([self._faces.ids[row] for row in rows]))
        done = generator.apply(batch.images, generator.sample(batch, torch.from_numpy(seeds)))
        frame, lens = done.parts["frame"], done.parts["lens"]
        inside = frame > 0.5 if kind == "clear" else torch.maximum(frame, lens) > 0.1
        return Worn(done.images, batch.images, inside, done.mask == 0, rows)

    def _measure(self, kind: str, remove: Remove) -> dict[str, Any]:
        columns: dict[str, list[np.ndarray]] = {}
        for worn in self.worn(kind):
            made = remove(worn.images, worn.inside)
            figures = {
                "psnr_inside": psnr(made, worn.clean, worn.inside).clamp(max=MOST_DB),
                "psnr_outside": psnr(made, worn.clean, worn.outside).clamp(max=MOST_DB),
                "ssim": ssim(made, worn.clean),
                "ssim_inside": ssim(made, worn.clean, worn.inside),
                "identity": self._cosine(made, worn),
                "detected": (tell_glasses(self._detector, made)[GLASSES] >= 0.5).float(),
            }
            for name, values in figures.items():
                columns.setdefault(name, []).append(values.double().numpy())
        table = {name: np.concatenate(values) for name, values in columns.items()}
        result = {name: _interval(values, self._people, np.nanmean) for name, values in table.items()}
        result["identity_worst_5_percent"] = _interval(table["identity"], self._people, _worst)
        return result | {"faces": len(self._faces.ids), "people": len(set(self._faces.subjects))}

    def _cosine(self, made: Tensor, worn: Worn) -> Tensor:
        return (self._embed(made) * self._clean[torch.from_numpy(worn.rows)]).sum(1)

    @cached_property
    def _clean(self) -> Tensor:
        return torch.cat([self._embed(item.clean) for item in self.worn("none")])

    @cached_property
    def _people(self) -> np.ndarray:
        return np.unique(np.asarray(self._faces.subjects), return_inverse=True)[1]

    def _block(self, kind: str) -> OcclusionBlock | None:
        options = KINDS[kind]
        return options and OcclusionBlock.model_validate(options, context={"registry": self._build.registry})

    def _version(self, kind: str) -> str | None:
        block = self._block(kind)
        return None if block is None else str(getattr(self._build.build(block), "version", None))


def telea(images: Tensor, mask: Tensor) -> Tensor:
    """OpenCV's inpainting after Telea (2004), told exactly where the glasses are. images: uint8. mask: bool."""
    pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
    # A pixel more: edges are soft, and inpainting takes its colours from beside the mask.
    masks = [cv2.dilate(item.numpy().astype(np.uint8), np.ones((3, 3), np.uint8)) for item in mask[:, 0]]
    made = [cv2.inpaint(picture, item, 3, cv2.INPAINT_TELEA) for picture, item in zip(pictures, masks, strict=True)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def as_bytes(images: Tensor) -> Tensor:
    return images.mul(255).round().clamp(0, 255).byte()


def _remover(remove: Remove | LoadedGenerator | None) -> Remove:
    if remove is None:
        return lambda images, mask: images
    if isinstance(remove, LoadedGenerator):
        return lambda images, mask: as_bytes(generate_images(remove, images).images).cpu()
    return remove


def _worst(values: np.ndarray) -> float:
    """Mean of the lowest 5 %."""
    return float(np.sort(values)[: max(1, len(values) // 20)].mean())


def _interval(values: np.ndarray, people: np.ndarray, figure: Callable[[np.ndarray], Any]) -> list[float]:
    """[value, low, high]: of all faces, and 2.5 and 97.5 % of the rounds in which people are drawn again."""
    draw = np.random.default_rng(SEED)
    faces_of = np.argsort(people, kind="stable")
    starts = np.searchsorted(people[faces_of], np.arange(people.max() + 2))
    rounds = []
    for _ in range(ROUNDS):
        drawn = draw.integers(people.max() + 1, size=people.max() + 1)
        rounds.append(figure(values[np.concatenate([faces_of[starts[who] : starts[who + 1]] for who in drawn])]))
    low, high = np.nanquantile(rounds, [0.025, 0.975])
    return [float(figure(values)), float(low), float(high)]


def gains(cells: Mapping[str, Mapping[str, Any]], over: str) -> dict[str, dict[str, float]]:
    """How much better each remover is than ``over``, by kind of glasses: PSNR inside (dB), identity, worst identity."""
    names = ("psnr_inside", "identity", "identity_worst_5_percent")
    return {
        remover: {
            f"{kind}.{name}": found[kind][name][0] - cells[over][kind][name][0]
            for kind in found
            if kind in cells[over]
            for name in names
        }
        for remover, found in cells.items()
        if remover != over
    }
