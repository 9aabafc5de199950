"""The run directory's lock and manifest."""

from __future__ import annotations

import os

import pytest

from occframe.errors import OccframeError
from occframe.rundir import RunDir, StepRecord
from occframe.storage import exists, join, write_json


def test_a_record_comes_back_as_it_was(tmp_path):
    record = StepRecord(
        "train", "done", "abc", "now", 1.5, {"": {"kind": "model", "meta": {}}}, {"loss": 0.5}, ("a",), ("b",)
    )
    RunDir(str(tmp_path)).record("first", record)
    assert RunDir(str(tmp_path)).steps == {"first": record}


@pytest.mark.parametrize("protocol", ["", "memory://"])
def test_the_lock_holds_and_lets_go(tmp_path, protocol):
    url = f"{protocol}{tmp_path}/run"
    with RunDir(url).lock():
        with (
            pytest.raises(OccframeError, match=f"another run uses this directory: process {os.getpid()}"),
            RunDir(url).lock(),
        ):
            pytest.fail("two held it")
        RunDir(url).record("first", StepRecord("train", "running", "abc", "now"))
    with RunDir(url).lock():
        assert RunDir(url).steps["first"].status == "running"


def test_what_another_run_wrote_is_seen_once_the_lock_is_held(tmp_path):
    early = RunDir(str(tmp_path))
    RunDir(str(tmp_path)).record("first", StepRecord("train", "done", "abc", "now"))
    with early.lock():
        assert early.steps["first"].status == "done"


def test_a_local_lock_file_left_by_a_dead_process_is_no_lock(tmp_path):
    (tmp_path / "run.lock").write_text("process 1 on another-boot")
    with RunDir(str(tmp_path)).lock():
        assert exists(join(str(tmp_path), "run.lock"))


def test_a_manifest_of_another_format_is_refused(tmp_path):
    write_json(str(tmp_path / "manifest.json"), {"format": 99, "run": {}, "steps": {}})
    with pytest.raises(OccframeError, match="has format 99, this occframe reads 1"):
        RunDir(str(tmp_path))
