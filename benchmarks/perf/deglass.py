"""Glasses removal as it is used, beside the plain network: bfloat16, channels last and batch norms folded, against the
same weights as trained, in float32 and contiguous.

A row is a batch, or a single face: there the figure is its time, and ``p95`` the 95th percentile of both sides.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from side_by_side import Comparison, interleave, main, seconds

from occframe.component import BuildContext, GeneratorBlock
from occframe.generators import generate_images, load_generator, save_generator
from occframe.machine import keep_freed_memory
from occframe.plugins import PluginRegistry


def one_network(options: dict[str, object], size: int, batch: int, rounds: int) -> list[Comparison]:
    registry = PluginRegistry.discover()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    build = BuildContext(registry, device=device)
    block = GeneratorBlock.model_validate({"use": "cse", "size": size} | options, context={"registry": registry})
    plain = build.build(block).eval().to(device)
    with tempfile.TemporaryDirectory() as folder:
        save_generator(folder, plain, block)
        model = load_generator(folder, build)
    faces = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)

    def ours(count: int) -> float:
        return seconds(lambda: generate_images(model, faces[:count]).images.sum().item())

    def theirs(count: int) -> float:
        with torch.inference_mode():
            return seconds(lambda: plain(faces[:count].float() / 127.5 - 1).images.sum().item())

    def p95(side: str, repeats: int = 20) -> float:
        times = [ours(1) if side == "ours" else theirs(1) for _ in range(repeats)]
        return 1000 * float(np.percentile(times, 95))

    blend = " blend" if options.get("blend") else ""
    name = f"remove, c={options['width']} n={options['blocks']}{blend} at {size}"
    return [
        interleave(
            f"{name}, batch {batch}",
            lambda: batch / ours(batch),
            lambda: batch / theirs(batch),
            unit="images/s",
            bar=">= 2",
            rounds=rounds,
        ),
        interleave(
            f"{name}, one face",
            lambda: 1000 * ours(1),
            lambda: 1000 * theirs(1),
            unit="ms",
            bar="<= 0.5",
            rounds=4 * rounds,
        ),
        interleave(
            f"{name}, one face p95", lambda: p95("ours"), lambda: p95("theirs"), unit="ms", bar="", rounds=rounds
        ),
    ]


def compare(quick: bool) -> list[Comparison]:
    keep_freed_memory()
    if quick:
        return one_network({"width": 16, "blocks": 4, "blend": True}, 112, 4, 1)
    reference = {"width": 32, "blocks": 6}
    return [
        *one_network(reference, 112, 16, 5),
        *one_network(reference | {"blend": True}, 112, 16, 3),
        *one_network(reference, 256, 4, 3),
    ]


if __name__ == "__main__":
    main(compare)
