"""The step ``embed``, data set to committed Parquet, beside the bare forward pass of the same images.

Ours reads JPEGs from Parquet, decodes, normalises, embeds, checks and writes; theirs has the same images in memory, as
normalised floats, and calls the network in the same precision and batch size. Neither mirrors; both keep freed memory,
as the step has the process do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from side_by_side import Comparison, interleave, main, seconds

from occframe.component import BackboneBlock, BuildContext
from occframe.data import FaceLoader, FaceParquetWriter, ParquetFaces
from occframe.images import to_model_input
from occframe.machine import keep_freed_memory
from occframe.models import load_model, save_model
from occframe.plugins import PluginRegistry
from occframe.precision import autocast, resolve_precision
from occframe.step import Artefact
from occframe.steps.embed import EmbedConfig, EmbedStep
from tests.fakes import FakeStepContext

BATCH = 32
OCCLUSION = {"use": "rectangles", "fills": ["colour", "texture"]}


def write_faces(path: Path, count: int) -> None:
    """Smooth noise as JPEG: about as many bytes as an aligned face, and as long to decode."""
    draw = np.random.default_rng(0)
    with FaceParquetWriter(str(path)) as writer:
        for number in range(count):
            coarse = draw.integers(0, 256, (14, 14, 3), dtype=np.uint8)
            picture = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC)
            encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            writer.add(f"face-{number:06}", f"person-{number // 8}", encoded)


def one_model(name: str, folder: Path, rounds: int, count: int) -> list[Comparison]:
    registry = PluginRegistry.discover()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    build = BuildContext(registry, device=device)
    block = BackboneBlock.model_validate(name, context={"registry": registry})
    torch.manual_seed(0)
    save_model(str(folder / name), build.build(block), block)
    model = load_model(str(folder / name), build)
    faces = ParquetFaces(str(folder / "faces.parquet"))
    spec = model.image_spec
    loader = FaceLoader(faces, height=spec.height, width=spec.width, batch_size=BATCH, threads=2, seed=0)
    precision = resolve_precision("auto", device)
    preloaded = [
        to_model_input(batch.images.to(device), spec).contiguous(memory_format=torch.channels_last)
        for batch in loader.epoch(0)
    ]

    def forward() -> None:
        with torch.inference_mode(), autocast(precision, device):
            for images in preloaded:
                embedding = model.backbone(images).embedding
        embedding.sum().item()  # waits for a GPU

    def embed(**options: object) -> Callable[[], float]:
        def run() -> float:
            with tempfile.TemporaryDirectory(dir=folder) as url:
                context = FakeStepContext(
                    url,
                    {"data": "faces", "model": "model", "flip": False, "batch_size": BATCH} | options,
                    EmbedConfig,
                    datasets={"faces": faces},
                    artefacts={"model": Artefact("model", "model", str(folder / name), {})},
                    registry=registry,
                    device=device,
                )
                return count / seconds(lambda: EmbedStep().run(context))

        return run

    def theirs() -> float:
        return count / seconds(forward)

    title = f"embed, {name}, {precision} on {device}"
    return [
        interleave(title, embed(), theirs, unit="images/s", bar=">= 0.9", rounds=rounds),
        interleave(f"{title}, occluded", embed(occlusion=OCCLUSION), theirs, unit="images/s", bar="", rounds=rounds),
    ]


def compare(quick: bool) -> list[Comparison]:
    keep_freed_memory()
    count, rounds = (128, 1) if quick else (4096, 3)
    with tempfile.TemporaryDirectory() as folder:
        write_faces(Path(folder) / "faces.parquet", count)
        return [row for name in ("mobilefacenet", "iresnet18") for row in one_model(name, Path(folder), rounds, count)]


if __name__ == "__main__":
    main(compare)
