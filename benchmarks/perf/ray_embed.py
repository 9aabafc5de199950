"""The step ``embed`` on two Ray actors of one thread each against one process of one thread, JPEGs in Parquet to a
committed gallery; starting Ray and loading the model there is not counted.

20,000 faces take a minute or two a side, so there are two rounds, after a warm-up of a few hundred. The last line is no
ratio of speeds: ours are embeddings that differ in a bit between the sides, theirs how many there are.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and by the actors

import tempfile
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from embed import write_faces
from side_by_side import Comparison, interleave, main

from occframe.component import BackboneBlock, BuildContext, EngineBlock
from occframe.data import ParquetFaces, Subset
from occframe.engine import InProcess
from occframe.gallery import Gallery
from occframe.models import save_model
from occframe.plugins import PluginRegistry
from occframe.step import Artefact
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.types import Engine
from tests.fakes import FakeStepContext

WARM_UP = 256


def side(folder: Path, name: str, count: int, engine: Engine, registry: PluginRegistry) -> Callable[[], float]:
    """Images/s: of a few at the first call, then of all."""
    counts = chain([min(WARM_UP, count)], repeat(count))
    faces = ParquetFaces(str(folder / "faces.parquet"))

    def run() -> float:
        rows = range(next(counts))
        context = FakeStepContext(
            tempfile.mkdtemp(dir=folder, prefix=name),
            {"data": "faces", "model": "model", "threads": 1},
            EmbedConfig,
            datasets={"faces": Subset(faces, rows)},
            artefacts={"model": Artefact("model", "model", str(folder / "model"), {})},
            registry=registry,
            engine=engine,
        )
        rate = EmbedStep().run(context).metrics["images_per_s"]
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(context.url)
        return rate

    return run


def compare(quick: bool) -> list[Comparison]:
    torch.set_num_threads(1)
    count, rounds = (1024, 1) if quick else (20_000, 2)
    registry = PluginRegistry.discover()
    build = BuildContext(registry)
    block = BackboneBlock.model_validate("mobilefacenet", context={"registry": registry})
    two = EngineBlock.model_validate({"use": "ray", "actors": 2}, context={"registry": registry})
    engine: Engine = build.build(two)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_faces(folder / "faces.parquet", count)
        torch.manual_seed(0)
        save_model(str(folder / "model"), build.build(block), block)
        speed = interleave(
            f"embedding {count:,} faces, 2 Ray actors over 1 process, mobilefacenet",
            side(folder, "ours", count, engine, registry),
            side(folder, "theirs", count, InProcess(), registry),
            unit="images/s",
            bar=">= 1.6",
            rounds=rounds,
        )
        engine.close()
        ours, theirs = (Gallery.open(str(folder / name)).read_vectors() for name in ("ours", "theirs"))
        differing = float((ours.view(np.uint16) != theirs.view(np.uint16)).any(axis=1).sum())
    share = differing / count
    title = "embeddings that differ in a bit"
    return [speed, Comparison(title, "faces", differing, float(count), share, share, share, "0", 1)]


if __name__ == "__main__":
    main(compare)
