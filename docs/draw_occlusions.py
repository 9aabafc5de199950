"""Draws the pictures of docs/occlusions-gallery.md, on drawn faces. Run it after changing what a generator draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch

from occframe.component import OcclusionBlock
from occframe.random import derive_seed
from occframe.standalone import parse_block, standalone_context
from occframe.types import FaceBatch
from occframe_datasets.synthetic import SyntheticFaces
from occframe_occlusions.suite_configs import FRAME_SHAPES, MaskKind

COLUMNS, SIZE, LABEL = 4, 112, 108


#: Pictures of the gallery page, and their rows: label, block.
GALLERY: dict[str, dict[str, dict[str, Any]]] = {
    "glasses": {
        **{shape: {"use": "glasses", "shapes": [shape], "lenses": ["clear"]} for shape in FRAME_SHAPES},
        **{lens: {"use": "glasses", "lenses": [lens]} for lens in ("tinted", "gradient", "reflective")},
        "dark": {"use": "sunglasses", "lenses": ["dark"]},
        "mirror": {"use": "sunglasses", "lenses": ["mirror"]},
        "random": {"use": "random-eyewear"},
    },
    "masks": {
        **{kind: {"use": "medical-mask", "kinds": [kind], "wearing": ["full"]} for kind in get_args(MaskKind)},
        "nose-out": {"use": "medical-mask", "wearing": ["nose-out"]},
        "chin": {"use": "medical-mask", "wearing": ["chin"]},
        "scarf": {"use": "scarf"},
    },
    "head": {
        **{kind: {"use": "hat", "kinds": [kind]} for kind in ("beanie", "cap", "hood")},
        "hair": {"use": "hair"},
        **{f"hand: {place}": {"use": "hand", "places": [place]} for place in ("mouth", "eye", "cheek")},
        **{kind: {"use": "object", "kinds": [kind]} for kind in ("phone", "cup")},
    },
    "camera": {
        **{kind: {"use": "dirt", "kinds": [kind]} for kind in ("dirt", "water", "glare")},
        "watermark": {"use": "watermark"},
    },
    "plain": {
        **{name: {"use": name} for name in ("rectangles", "erasing", "blobs", "eye-bar", "mouth-bar", "half-face")},
        "block-grid": {"use": "block-grid"},
        "scattered": {"use": "block-grid", "pattern": "scattered"},
    },
}


def main() -> None:
    context = standalone_context()
    drawn = SyntheticFaces(identities=COLUMNS, images=1, size=SIZE, seed=3)
    pictures = np.stack(drawn.read(list(range(COLUMNS))))
    batch = FaceBatch(
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
        index=torch.arange(COLUMNS),
        landmarks=torch.from_numpy(drawn.landmarks),
    )
    for page, blocks in GALLERY.items():
        strips = []
        for label, block in blocks.items():
            generator = context.build(parse_block(OcclusionBlock, {"severity": 0.5} | block, context))
            seeds = torch.tensor([derive_seed("gallery", label, column) for column in range(COLUMNS)])
            seen = generator.apply(batch.images, generator.sample(batch, seeds))
            hidden = (seen.mask * 255).round().byte().expand(-1, 3, -1, -1)
            strips.append(strip(label, torch.cat([seen.images, hidden]).permute(0, 2, 3, 1).numpy()))
        sheet = np.ascontiguousarray(np.vstack(strips)[:, :, ::-1])
        path = Path(__file__).parent / "images" / f"occlusions-{page}.jpg"
        cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 78])


def strip(name: str, pictures: np.ndarray) -> np.ndarray:
    label = np.full((SIZE, LABEL, 3), 255, np.uint8)
    cv2.putText(label, name, (4, SIZE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return np.hstack([label, *pictures])


if __name__ == "__main__":
    main()
