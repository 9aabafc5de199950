"""Two processes of one thread each (gloo) against one process of one thread, one global batch, started by
`occframe run`.

The last line is no ratio of speeds: it is the largest difference between the losses of both over 50 steps of the first
training, and ``theirs`` the largest that is accepted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from side_by_side import Comparison, interleave, main

_PEOPLE, _WARM = 80, 10  # steps in which allocators and kernels settle
RECOGNISER = {
    "use": "train",
    "backbone": "mobilefacenet",
    "losses": [{"use": "cosface", "scale": 16}],
    # Kept, since on a CPU each process would normalise by its own half of a batch.
    "parts": {"backbone": {"statistics": "keep"}},
    "epochs": 1,
    "batch_size": 64,
}
REMOVER = {
    "use": "train_generator",
    "generator": {"use": "cse", "width": 16, "norm": "instance", "discriminator": {"width": 16}},
    "occlusion": "rectangles",
    "feature": {"weight": 0},
    "samples": 0,
    "batch_size": 16,
}
TOLERANCE = 1e-4


def train(folder: Path, step: dict[str, Any], processes: int, images: int) -> list[dict[str, float]]:
    """The lines of a training's metrics, one a step. images: of each person."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    pipeline = {
        "version": 1,
        "run_dir": str(run_dir / "run"),
        "seed": 3,
        "device": "cpu",
        "engine": {"processes": processes},
        "data": {"faces": {"use": "synthetic", "identities": _PEOPLE, "images": images, "size": 112}},
        "steps": [{**step, "name": "train", "data": "faces", "log_every": 1, "threads": 1}],
    }
    (run_dir / "pipeline.yaml").write_text(json.dumps(pipeline))
    command = [sys.executable, "-m", "occframe", "run", str(run_dir / "pipeline.yaml")]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = map(json.loads, (run_dir / "run" / "train" / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "steps"]


def rate(steps: list[dict[str, float]], batch_size: int) -> float:
    """Images/s."""
    return batch_size * len(steps[_WARM:]) / sum(line["seconds"] for line in steps[_WARM:])


def compare(quick: bool) -> list[Comparison]:
    images, rounds = (10, 1) if quick else (40, 3)  # of 80 people: 12 or 50 steps of 64
    remover = REMOVER | {"iterations": 12 if quick else 50}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def side(step: dict[str, Any], processes: int) -> Callable[[], float]:
            return lambda: rate(train(folder, step, processes, images), step["batch_size"])

        speeds = [
            interleave(title, side(step, 2), side(step, 1), unit="images/s", bar=">= 1.7", rounds=rounds)
            for title, step in (
                ("training, 2 processes over 1, bf16", RECOGNISER),
                ("adversaries, 2 processes over 1, bf16", remover),
            )
        ]
        exact = RECOGNISER | {"precision": "fp32"}
        losses = [[line["loss"] for line in train(folder, exact, processes, images)] for processes in (1, 2)]
    difference = max(abs(one - two) for one, two in zip(*losses, strict=True))
    ratio = difference / TOLERANCE
    title = f"difference of losses, {len(losses[0])} steps, fp32"
    return [*speeds, Comparison(title, "loss", difference, TOLERANCE, ratio, ratio, ratio, "<= 1", 1)]


if __name__ == "__main__":
    main(compare)
