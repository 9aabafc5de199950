"""Draws docs/occlusions.jpg: every generator on drawn faces. Run from the root of the checkout after changing one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from occframe.component import OcclusionBlock
from occframe.random import derive_seed
from occframe.standalone import parse_block, standalone_context
from occframe.types import FaceBatch
from occframe_datasets.synthetic import SyntheticFaces

COLUMNS, SIZE, LABEL = 7, 112, 108
LEFT_OUT = ("choice", "compose", "sprites")


def main() -> None:
    context = standalone_context()
    drawn = SyntheticFaces(identities=COLUMNS, images=1, size=SIZE, seed=3)
    pictures = np.stack(drawn.read(list(range(COLUMNS))))
    batch = FaceBatch(
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
        index=torch.arange(COLUMNS),
        landmarks=torch.from_numpy(drawn.landmarks),
    )
    strips = [strip("clean", pictures)]
    for component in sorted(context.registry.components("occlusion"), key=lambda item: item.name):
        if component.owner != "occframe" or component.name in LEFT_OUT:
            continue
        generator = context.build(parse_block(OcclusionBlock, {"use": component.name}, context))
        seeds = torch.tensor([derive_seed("gallery", component.name, column) for column in range(COLUMNS)])
        occluded = generator.apply(batch.images, generator.sample(batch, seeds))
        strips.append(strip(component.name, occluded.images.permute(0, 2, 3, 1).numpy()))
    sheet = np.ascontiguousarray(np.vstack(strips)[:, :, ::-1])
    cv2.imwrite(str(Path(__file__).with_name("occlusions.jpg")), sheet, [cv2.IMWRITE_JPEG_QUALITY, 78])


def strip(name: str, pictures: np.ndarray) -> np.ndarray:
    label = np.full((SIZE, LABEL, 3), 255, np.uint8)
    cv2.putText(label, name, (4, SIZE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return np.hstack([label, *pictures])


if __name__ == "__main__":
    main()
