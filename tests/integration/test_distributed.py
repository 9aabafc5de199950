"""Trainings of two real processes (gloo), started as a user starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
# An occlusion that cannot be built, so that the step that wants it fails in process 0.
FAILING = """

def fail(config, context):
    from occframe import OccframeError
    raise OccframeError("told to fail", remedy="fix it")

@hookimpl
def occframe_register_occlusions(register):
    register("absent-one", fail, config=Config, summary="fails")
"""
# Features of a recogniser that sees faces whole: a step's shares of a batch are shares of each process's part.
ADVERSARIES = """
version: 1
run_dir: {run_dir}
seed: 3
device: cpu
engine: {{processes: {processes}}}
data:
  faces: {{use: synthetic, identities: 16, images: 4, size: 32}}
  others: {{use: synthetic, identities: 16, images: 2, size: 32, seed: 1}}
steps:
  - use: train
    data: faces
    backbone: {{use: mobilefacenet, input_size: [32, 32]}}
    losses: [cosface]
    parts: {{backbone: {{statistics: keep}}}}
    epochs: 1
    batch_size: 16
    precision: fp32
  - use: train_generator
    data: faces
    generator: {{use: cse, size: 32, width: 4, blocks: 1, norm: instance, discriminator: {{width: 4}}}}
    {mode}
    recogniser: train
    identity: {{share: 1}}
    wearers: {{data: others, bare: others, batch_size: 4}}
    iterations: 10
    batch_size: 8
    optimiser: {{lr: 0.001}}
    clip_norm: 5
    precision: fp32
    samples: 2
    log_every: 1
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
    return started(folder, name, PIPELINE, {"processes": processes}, **environment)


def started(
    folder: Path, name: str, text: str, filled: dict[str, Any], **environment: str
) -> subprocess.CompletedProcess[str]:
    pipeline = folder / f"{name}.yaml"
    pipeline.write_text(text.format(run_dir=folder / name.partition("-")[0], **filled))
    return subprocess.run(
        [sys.executable, "-m", "occframe", "run", str(pipeline)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def lines(step: Path) -> list[dict[str, Any]]:
    return [
        line for line in map(json.loads, (step / "metrics.jsonl").read_text().splitlines()) if line["kind"] == "steps"
    ]


def losses(folder: Path) -> list[float]:
    return [line["loss.cosface"] for line in lines(folder / "train")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


def test_two_processes_train_as_one_and_one_goes_on_where_two_died(folder):
    whole = run(folder, "one", 1)
    assert whole.returncode == 0, whole.stderr
    dead = run(folder, "two", 2, DIES="1")
    assert dead.returncode != 0
    assert "this process was told to die" in dead.stderr
    assert re.search(r"error: process [01] of this run ended with status \d+\n  -> ", dead.stderr)
    assert "ChildFailedError" not in dead.stderr
    assert losses(folder / "two")[:10] == pytest.approx(losses(folder / "one")[:10], abs=1e-4)
    resumed = run(folder, "two-again", 1)
    assert resumed.returncode == 0, resumed.stderr
    assert "went on from the checkpoint of step 10 of 20" in resumed.stderr
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), abs=1e-4)
    assert (folder / "two" / "embed" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("kind", "mode"), [("paired", "occlusion: rectangles"), ("unpaired", "mode: unpaired\n    clean: others")]
)
def test_two_processes_train_adversaries_as_one(folder, kind, mode):
    found = {}
    for processes in (1, 2):
        name = f"{kind}{processes}"
        done = started(folder, name, ADVERSARIES, {"mode": mode, "processes": processes})
        assert done.returncode == 0, done.stderr
        found[processes] = lines(folder / name / "train_generator")
        assert (folder / name / "train_generator" / "samples" / "step-0000010.jpg").exists()
    assert len(found[1]) == len(found[2]) == 10
    names = {name for name in found[1][0] if name.startswith(("loss", "score"))}
    assert {"loss.discriminative", "loss.wearers", "loss.feature", "score.made"} <= names
    for one, two in zip(found[1], found[2], strict=True):
        assert {name: two[name] for name in names} == pytest.approx({name: one[name] for name in names}, abs=1e-3)


def begun(folder: Path, name: str) -> subprocess.Popen[str]:
    """A training of two processes that has taken some steps."""
    (folder / "plugin.py").write_text(PLUGIN)
    pipeline = folder / f"{name}.yaml"
    pipeline.write_text(PIPELINE.replace("epochs: 2", "epochs: 500").format(run_dir=folder / name, processes=2))
    command = [sys.executable, "-m", "occframe", "run", str(pipeline)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    figures = folder / name / "train" / "metrics.jsonl"
    for _ in range(600):
        if figures.exists() and figures.read_text().count("\n") > 20:
            break
        time.sleep(0.1)
    return running


def test_ctrl_c_stops_all_of_them_at_a_safe_place(folder):
    running = begun(folder, "stopped")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    told = running.communicate(timeout=120)[1]
    assert running.returncode == 130
    assert re.search(r"training stopped after step \d+ of 5000; a checkpoint is kept", told)
    assert "Traceback" not in told


def test_who_is_told_to_end_ends_all_of_them(folder):
    """As ``docker stop`` tells the first process, and that one alone."""
    running = begun(folder, "told")
    os.kill(running.pid, signal.SIGTERM)
    told = running.communicate(timeout=120)[1]
    assert running.returncode == 128 + signal.SIGTERM
    assert "a checkpoint is kept" in told


def test_an_error_of_process_0_is_told_once(folder):
    text = PIPELINE.replace("epochs: 2", "epochs: 1").replace("model: train", "model: train, occlusion: absent-one")
    (folder / "plugin.py").write_text(PLUGIN + FAILING)
    done = started(folder, "failing", text, {"processes": 2})
    assert done.returncode == 1
    assert "told to fail" in done.stderr
    assert "fix it" in done.stderr
    assert "Traceback" not in done.stderr


def test_batches_that_cannot_be_dealt_out(folder):
    failed = run(folder, "three", 3)
    assert failed.returncode != 0
    assert "batches of 16 images cannot be dealt out to 3 processes" in failed.stderr
