"""Verification of every pair of 13,233 x 512 embeddings, TAR at FAR down to 1e-6, against the bare product of the same
pairs in the same blocks; and of LFW's 6,000 listed pairs with confidence intervals, against its bar.

Drawn embeddings of as many people and pictures as LFW has. Memory is the peak of the whole process, both sides in it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np
from side_by_side import Comparison, interleave, main, seconds

from occframe.evaluation.configs import DrawnPairs, VerificationConfig
from occframe.evaluation.scoring import block_heights
from occframe.evaluation.verification_protocol import Verification
from occframe.types import EmbeddingTable

_PICTURES, _PEOPLE, _DIM = 13_233, 5_749, 512
_GIGABYTES, _CPU_SECONDS = 1.5, 2.0  # the bars


def drawn_faces(pictures: int, people: int, dim: int) -> EmbeddingTable:
    """As in LFW most people have one picture, and one has hundreds."""
    draw = np.random.default_rng(0)
    sizes = np.maximum(1, 530 * people / _PEOPLE / np.arange(1, people + 1) ** 0.72)
    whose = np.sort(
        np.concatenate([np.arange(people), draw.choice(people, pictures - people, p=(sizes - 1) / (sizes - 1).sum())])
    )
    vectors = draw.standard_normal((people, dim), np.float32)[whose]
    vectors += 1.6 * draw.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return EmbeddingTable([f"{row:06}" for row in range(pictures)], [f"{person:05}" for person in whose], vectors)


def bare_product(faces: EmbeddingTable) -> None:
    """Each two pictures once, in the blocks that the protocol takes, every score thrown away."""
    blocks = list(block_heights(len(faces.ids), len(faces.ids), once=True))
    scores = np.empty(max((stop - start) * stop for start, stop in blocks), np.float32)
    for start, stop in blocks:
        out = scores[: (stop - start) * stop].reshape(stop - start, stop)
        np.matmul(faces.vectors[start:stop], faces.vectors[:stop].T, out=out)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(quick: bool) -> list[Comparison]:
    pictures, people, dim = (1_500, 650, 128) if quick else (_PICTURES, _PEOPLE, _DIM)
    rounds = 2 if quick else 5
    faces = drawn_faces(pictures, people, dim)
    every_pair = Verification(VerificationConfig(rounds=0))
    with_intervals = Verification(VerificationConfig(rounds=20 if quick else 500))
    listed = Verification(VerificationConfig(draw=DrawnPairs(), rounds=1000))

    def over_product(name: str, protocol: Verification, clock: Callable[..., float], bar: str) -> Comparison:
        return interleave(
            name,
            lambda: clock(lambda: protocol.evaluate(faces, faces, None)),
            lambda: clock(lambda: bare_product(faces)),
            unit="s",
            bar=bar,
            rounds=rounds,
        )

    rows = [
        over_product(f"all pairs of {pictures:,} x {dim}, over product", every_pair, seconds, "<= 3"),
        over_product(f"all pairs of {pictures:,} x {dim}, CPU time", every_pair, cpu_seconds, "<= 3"),
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rows += [
        interleave("peak memory of that", lambda: peak, lambda: _GIGABYTES, unit="GB", bar="<= 1", rounds=1),
        over_product(
            f"all pairs with {with_intervals.config.rounds} bootstraps, over product", with_intervals, seconds, ""
        ),
        interleave(
            "6,000 pairs with 1,000 bootstraps, CPU time",
            lambda: cpu_seconds(lambda: listed.evaluate(faces, faces, None)),
            lambda: _CPU_SECONDS,
            unit="s",
            bar="<= 1",
            rounds=rounds,
        ),
    ]
    return rows


if __name__ == "__main__":
    main(compare)
