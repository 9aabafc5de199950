"""Steps in processes of their own: together, after each other, stopped, failed, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from occframe.machine import CORES

TOY = Path(__file__).with_name("toy_steps.py")
PATIENCE = 120  # seconds, on a busy machine
RUN = """
import sys
from pathlib import Path
from rich.console import Console
from occframe.cli.common import load
from occframe.pipeline import Runner
pipeline, registry = load(Path(sys.argv[1]), (), False, ())
Runner(pipeline, registry, Console(stderr=True)).run(processes=2)
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, *steps: str) -> None:
        """steps: ``name option=value …``."""
        lines = [f"run_dir: {self.folder}/run", f"plugins: [{TOY}]", "device: cpu", "steps:"]
        for step in steps:
            name, *options = step.split()
            lines += ["  - use: make", f"    name: {name}", f"    trace: {self.folder}/trace"]
            lines += [f"    {option.replace('=', ': ')}" for option in options]
        (self.folder / "pipeline.yaml").write_text("\n".join(lines))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.folder / "pipeline.yaml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str]:
        process = self.start()
        _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def statuses(self) -> dict[str, str]:
        return {name: step["status"] for name, step in self.steps().items()}

    def steps(self) -> dict[str, dict]:
        return json.loads((self.folder / "run" / "manifest.json").read_text())["steps"]

    def ran(self) -> set[str]:
        trace = self.folder / "trace"
        names = trace.read_text().split()
        trace.unlink()
        assert len(set(names)) == len(names)
        return set(names)

    def wait_for(self, *names: str) -> list[int]:
        """Until these steps are in the middle of their work. Returns their processes."""
        files = [self.folder / f"{name}.here" for name in names]
        until(lambda: all(file.exists() and file.read_text() for file in files))
        return [int(file.read_text()) for file in files]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_two_run_at_once_and_what_needs_them_after_them(project: Project) -> None:
    project.write("a behave=meet value=2", "b behave=meet value=2", "c needs=a", "d needs=c behave=show_progress")
    code, said = project.run()
    assert code == 0, said
    assert project.ran() == {"a", "b", "c", "d"}
    steps = project.steps()
    assert steps["c"]["outputs"][""]["meta"]["value"] == 3
    assert steps["c"]["notes"] == ["all is well"]
    assert "c: all is well" in said
    assert "d: working: 30/30 things" in said
    assert "in all: 4/4 steps" in said
    assert project.run()[1].count("skipped") == 4


def test_the_cores_are_divided(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv(CORES, "2")
    project.write("a behave=count_cores", "b behave=count_cores")
    code, said = project.run()
    assert code == 0, said
    assert [step["outputs"][""]["meta"]["value"] for step in project.steps().values()] == [1, 1]


def test_a_failure_is_named_and_what_runs_is_finished(project: Project) -> None:
    project.write("a behave=fail", "b behave=show_progress", "c needs=a", "d")
    code, said = project.run()
    assert code == 1
    assert "a failed: the step failed; waiting for b" in said
    assert "step `a`: the step failed\n  -> do better" in said
    assert project.statuses() == {"a": "failed", "b": "done"}
    project.write("a", "b behave=show_progress", "c needs=a", "d")
    assert project.ran() == {"a", "b"}
    assert project.run()[0] == 0
    assert project.ran() == {"a", "c", "d"}


def test_failures_of_two_are_both_told(project: Project) -> None:
    project.write("a behave=fail", "b behave=return_no_json")
    said = project.run()[1]
    assert "step `a`: the step failed" in said
    assert "step `b` returned what is no plain JSON" in said


def test_a_fault_comes_with_its_lines(project: Project) -> None:
    project.write("a behave=crash", "b")
    said = project.run()[1]
    assert "raise ZeroDivisionError" in said
    assert "The process of step `a` said:" in said
    assert project.steps()["a"]["error"] == "ZeroDivisionError: a fault"


def test_a_process_that_is_killed_fails_its_step(project: Project) -> None:
    project.write("a behave=be_killed", "b")
    said = project.run()[1]
    assert "step `a`: its process ended (SIGKILL) before it did" in said
    assert "fewer --processes" in said
    assert project.statuses()["a"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_reaches_all_and_the_next_run_goes_on(project: Project, number: signal.Signals) -> None:
    """As a terminal sends it: to every process of the group."""
    project.write("a behave=meet value=3", "b behave=meet value=3", "c needs=a")
    process = project.start()
    workers = project.wait_for("a", "b")
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=PATIENCE)
    assert "stopping at the next safe place" in said
    assert "Interrupted: stopped" in said
    assert "failed" not in said
    assert project.statuses() == {"a": "interrupted", "b": "interrupted"}
    assert all(map(is_gone, workers))
    (project.folder / "third.here").touch()
    assert project.run()[0] == 0
    assert set(project.statuses().values()) == {"done"}


def test_a_second_request_does_not_wait(project: Project) -> None:
    project.write("a behave=hang value=2", "b behave=hang value=2")
    process = project.start()
    workers = project.wait_for("a", "b")
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert project.statuses() == {"a": "interrupted", "b": "interrupted"}
    assert all(map(is_gone, workers))


def test_no_process_outlives_the_run(project: Project) -> None:
    project.write("a behave=hang value=2", "b behave=hang value=2")
    process = project.start()
    workers = project.wait_for("a", "b")
    process.kill()
    process.communicate(timeout=PATIENCE)
    until(lambda: all(map(is_gone, workers)))
    assert project.statuses() == {"a": "running", "b": "running"}
