"""A million identities: steps of the sampled class centres against those of all centres, and what memory they take."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from side_by_side import Comparison, interleave, main
from torch import Tensor

from occframe.types import BackboneOutput, FaceBatch
from occframe_losses.margin import MarginSoftmax, cosface_margin
from occframe_losses.sampled import SampledMarginSoftmax

DIM, BATCH = 512, 128
PSI = partial(cosface_margin, margin=0.35)
GIB = 2**30
# Beside the loss in a process of its own: what a training has there anyway, torch, its buffers and a backbone's 1 GB of
# activations, is left out by taking the memory before.
SCRIPT = """
import resource, sys
import torch
from partial_fc import draw, sampled

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

draw(0, 10), torch.zeros(8, 8) @ torch.zeros(8, 8)
before = peak()
term = sampled(int(sys.argv[1]), 0.1)
for step in range(3):
    vectors, batch = draw(step, int(sys.argv[1]))
    term(vectors, batch).backward()
    term.descend(0.1)
print(peak() - before)
"""


def draw(seed: int, identities: int) -> tuple[BackboneOutput, FaceBatch]:
    generator = torch.Generator().manual_seed(seed)
    labels: Tensor = torch.randint(identities, (BATCH,), generator=generator)
    vectors = torch.randn(BATCH, DIM, generator=generator, requires_grad=True)
    return BackboneOutput(vectors), FaceBatch(images=torch.zeros(BATCH, 3, 1, 1), index=labels, identities=labels)


def sampled(identities: int, rate: float) -> SampledMarginSoftmax:
    return SampledMarginSoftmax(
        num_identities=identities,
        embedding_dim=DIM,
        scale=64.0,
        psi=PSI,
        sample_rate=rate,
        momentum=0.9,
        weight_decay=5e-4,
        seed=0,
    )


def compare(quick: bool) -> list[Comparison]:
    identities, million = (5_000, 20_000) if quick else (50_000, 1_000_000)
    few = sampled(identities, 0.1)
    full = MarginSoftmax(num_identities=identities, embedding_dim=DIM, scale=64.0, psi=PSI)
    optimiser = torch.optim.SGD(full.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)

    def ours() -> float:
        began = time.perf_counter()
        for step in range(3):
            few(*draw(step, identities)).backward()
            few.descend(0.1)
        return 3 / (time.perf_counter() - began)

    def theirs() -> float:
        began = time.perf_counter()
        for step in range(3):
            full(*draw(step, identities)).backward()
            optimiser.step()
            optimiser.zero_grad()
        return 3 / (time.perf_counter() - began)

    speed = interleave(
        f"steps, {identities:,} identities, a tenth sampled over all",
        ours,
        theirs,
        unit="steps/s",
        bar="",
        rounds=1 if quick else 3,
    )
    command = [sys.executable, "-c", SCRIPT, str(million)]
    told = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True)
    memory = int(told.stdout) / GIB
    return [
        speed,
        Comparison(
            f"memory, {million:,} identities", "GiB", memory, 6.0, memory / 6, memory / 6, memory / 6, "<= 1", 1
        ),
    ]


if __name__ == "__main__":
    main(compare)
