"""The ``data`` section through the command line: splits, what a data set left out, and what is wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.pictures import encode, noise

STEP = """
import json
from occframe import DataRef, StepConfig, StepOutcome, hookimpl

class ListConfig(StepConfig):
    produces = "list"
    data: DataRef

class List:
    def run(self, context):
        faces = context.dataset(context.config.data)
        return StepOutcome({"": {"ids": list(faces.ids)}}, headlines=[f"{len(faces.ids)} faces"])

@hookimpl
def occframe_register_steps(register):
    register("list", lambda config, context: List(), config=ListConfig, summary="lists ids")
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "list_step.py").write_text(STEP)

    def run(data: str, reference: str) -> subprocess.CompletedProcess[str]:
        lines = [f"run_dir: {tmp_path}/run", "device: cpu", f"plugins: [{tmp_path}/list_step.py]", "data:"]
        lines += [f"  faces: {data}", "steps:", f"  - {{use: list, data: {reference}}}"]
        (tmp_path / "pipeline.yaml").write_text("\n".join(lines))
        command = [sys.executable, "-m", "occframe", "run", str(tmp_path / "pipeline.yaml")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def photos(tmp_path):
    for person in range(6):
        for number in range(4):
            path = tmp_path / "photos" / f"p{person}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(noise(16, 16, seed=person), ".jpg"))
    return tmp_path / "photos"


def step_of(tmp_path) -> dict:
    return json.loads((tmp_path / "run" / "manifest.json").read_text())["steps"]["list"]


def test_a_split_of_a_folder(run, photos, tmp_path):
    (photos / "p0" / "readme.txt").write_text("hello")
    splits = "{train: {identities: 4}, test: {identities: rest}, probe: {of: test, images: 3}}"
    done = run(f"{{use: folder, url: {photos}, splits: {splits}}}", "faces.probe")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6 faces\n"
    record = step_of(tmp_path)
    assert len({name.partition("/")[0] for name in record["outputs"][""]["meta"]["ids"]}) == 2
    assert record["notes"] == ["`faces.probe`: left out: 1 files that are no pictures by their names"]


def test_a_changed_picture_is_noticed(run, photos):
    data = f"{{use: folder, url: {photos}}}"
    assert run(data, "faces").stdout == "24 faces\n"
    (photos / "p0" / "9.jpg").write_bytes(b"new")
    assert run(data, "faces").stdout == "25 faces\n"


@pytest.mark.parametrize(
    ("data", "reference", "message"),
    [
        ("{use: folder, url: /nowhere/at/all}", "faces", "there is no folder at /nowhere/at/all"),
        ("{use: parquet, url: /nowhere/faces.parquet}", "faces", "no Parquet file or folder at /nowhere/faces.parquet"),
        ("{use: parquet, url: 'gopher://x/y'}", "faces", "cannot open gopher://x/y"),
        (
            "{use: synthetic, identities: 1, splits: {train: {identities: 1}, test: {identities: rest}}}",
            "faces.test",
            "split `test` is empty: the other parts leave it no identities",
        ),
        (
            "{use: synthetic, identities: 3, splits: {train: {identities: 28}}}",
            "faces.train",
            "split `train` asks for 28 identities; 3 of 3 are left for it",
        ),
    ],
)
def test_what_is_wrong_is_said(run, data, reference, message):
    done = run(data, reference)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_parts_that_do_not_fit_together_are_found_before_anything_runs(run):
    splits = "{train: {identities: 2}, gallery: {of: tset, images: 1}, test: {identities: rest}}"
    done = run(f"{{use: synthetic, splits: {splits}}}", "faces.train")
    assert done.returncode == 2
    assert "pipeline.yaml:5:" in done.stderr
    assert "split `gallery`: `of: tset` names no part; did you mean `test`?" in done.stderr
