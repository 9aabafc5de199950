"""Two processes of one thread each (gloo) against one process of one thread, one global batch, started by
`occframe run`.

The last line is no ratio of speeds: it is the largest difference between the losses of both over 50 steps, and
``theirs`` the largest that is accepted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import Comparison, interleave, main

PIPELINE = {
    "version": 1,
    "seed": 3,
    "device": "cpu",
    "data": {"faces": {"use": "synthetic", "identities": 80, "images": 40, "size": 112}},
    "steps": [
        {
            "use": "train",
            "data": "faces",
            "backbone": "mobilefacenet",
            "losses": [{"use": "cosface", "scale": 16}],
            # Kept, since on a CPU each process would normalise by its own half of a batch.
            "parts": {"backbone": {"statistics": "keep"}},
            "epochs": 1,
            "batch_size": 64,
            "log_every": 1,
            "threads": 1,
        }
    ],
}
TOLERANCE = 1e-4


def train(folder: Path, processes: int, images: int, precision: str) -> list[dict[str, float]]:
    """The lines of a training's metrics, one a step and one for the epoch."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    pipeline = json.loads(json.dumps(PIPELINE)) | {
        "run_dir": str(run_dir / "run"),
        "engine": {"processes": processes},
    }
    pipeline["data"]["faces"]["images"] = images
    pipeline["steps"][0]["precision"] = precision
    (run_dir / "pipeline.yaml").write_text(json.dumps(pipeline))
    command = [sys.executable, "-m", "occframe", "run", str(run_dir / "pipeline.yaml")]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line) for line in (run_dir / "run" / "train" / "metrics.jsonl").read_text().splitlines()]


def rate(lines: list[dict[str, float]]) -> float:
    """Images/s of the steps after the first ten, in which allocators and kernels settle."""
    steps = [line for line in lines if line["kind"] == "steps"][10:]
    return 64 * len(steps) / sum(line["seconds"] for line in steps)


def compare(quick: bool) -> list[Comparison]:
    images, rounds = (10, 1) if quick else (40, 3)  # of 80 people: 12 or 50 steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed = interleave(
            "training, 2 processes over 1, bf16",
            lambda: rate(train(folder, 2, images, "auto")),
            lambda: rate(train(folder, 1, images, "auto")),
            unit="images/s",
            bar=">= 1.7",
            rounds=rounds,
        )
        losses = [
            [line["loss"] for line in train(folder, processes, images, "fp32") if line["kind"] == "steps"]
            for processes in (1, 2)
        ]
    difference = max(abs(one - two) for one, two in zip(*losses, strict=True))
    ratio = difference / TOLERANCE
    title = f"difference of losses, {len(losses[0])} steps, fp32"
    return [speed, Comparison(title, "loss", difference, TOLERANCE, ratio, ratio, ratio, "<= 1", 1)]


if __name__ == "__main__":
    main(compare)
