"""Trainings of two real processes (gloo), started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
version: 1
run_dir: {run_dir}
seed: 3
device: cpu
plugins: [plugin.py]
engine: {{processes: {processes}}}
data: {{faces: {{use: synthetic, identities: 16, images: 10, size: 32}}}}
steps:
  - use: train
    data: faces
    backbone: {{use: mobilefacenet, input_size: [32, 32]}}
    losses: [{{use: cosface, scale: 16, sampled: {{rate: 1.0}}}}, mortal]
    parts: {{backbone: {{statistics: keep}}}} # else each process normalises by its own half of a batch
    occlusion: rectangles
    epochs: 2
    batch_size: 16
    precision: fp32
    log_every: 1
    checkpoint_minutes: 0.0001
  - {{use: embed, data: faces, model: train}}
"""
# A loss that weighs nothing and, where it is told so, dies.
PLUGIN = """
import os
from occframe import Config, hookimpl
from occframe.distributed import ranks

def build(config, context):
    import torch

    class Mortal(torch.nn.Module):
        needs = frozenset()
        calls = 0

        def forward(self, output, batch):
            self.calls += 1
            if os.environ.get("DIES") == str(ranks().rank) and self.calls == 15:
                raise RuntimeError("this process was told to die")
            return output.embedding.sum() * 0

    return Mortal()

@hookimpl
def occframe_register_losses(register):
    register("mortal", build, config=Config, summary="dies")
"""


def run(folder: Path, name: str, processes: int, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "plugin.py").write_text(PLUGIN)
    pipeline = folder / f"{name}.yaml"
    pipeline.write_text(PIPELINE.format(run_dir=folder / name.partition("-")[0], processes=processes))
    return subprocess.run(
        [sys.executable, "-m", "occframe", "run", str(pipeline)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "train" / "metrics.jsonl").read_text().splitlines())
    return [line["loss.cosface"] for line in lines if line["kind"] == "steps"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


def test_two_processes_train_as_one_and_one_goes_on_where_two_died(folder):
    whole = run(folder, "one", 1)
    assert whole.returncode == 0, whole.stderr
    dead = run(folder, "two", 2, DIES="1")
    assert dead.returncode != 0
    assert "this process was told to die" in dead.stderr
    assert losses(folder / "two")[:10] == pytest.approx(losses(folder / "one")[:10], abs=1e-4)
    resumed = run(folder, "two-again", 1)
    assert resumed.returncode == 0, resumed.stderr
    assert "went on from the checkpoint of step 10 of 20" in resumed.stderr
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), abs=1e-4)
    assert (folder / "two" / "embed" / "manifest.json").exists()


def test_batches_that_cannot_be_dealt_out(folder):
    failed = run(folder, "three", 3)
    assert failed.returncode != 0
    assert "batches of 16 images cannot be dealt out to 3 processes" in failed.stderr
