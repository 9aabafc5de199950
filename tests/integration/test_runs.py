"""The runner through the command line: skip, resume, redo, stop, fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOY = Path(__file__).with_name("toy_steps.py")


class Project:
    """A folder with a pipeline of toy steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.trace = folder / "trace"
        self.file = folder / "pipeline.yaml"
        self.write("first", "second")

    def write(self, *names: str, **changes: str) -> None:
        lines = [f"run_dir: {self.run_dir}", f"plugins: [{TOY}]", "device: cpu", "steps:"]
        for number, name in enumerate(names):
            lines += ["  - use: make", f"    name: {name}", f"    trace: {self.trace}"]
            lines += [f"    needs: {names[number - 1]}"] if number else []
            lines += [f"    {changes[name]}"] if name in changes else []
        self.file.write_text("\n".join(lines))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "occframe", "run", str(self.file), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)

    def ran(self) -> list[str]:
        """Names of the steps that ran since the last call."""
        names = self.trace.read_text().split() if self.trace.exists() else []
        self.trace.unlink(missing_ok=True)
        return names

    def manifest(self) -> dict:
        return json.loads((self.run_dir / "manifest.json").read_text())


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_steps_run_in_order_and_headlines_come_out(project):
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "first is 1\nsecond is 2\n"
    assert project.ran() == ["first", "second"]
    manifest = project.manifest()
    assert manifest["steps"]["second"]["outputs"][""] == {"kind": "thing", "meta": {"value": 2}}
    assert manifest["steps"]["first"]["notes"] == ["all is well"]
    assert manifest["run"]["versions"]["python"]
    assert (project.run_dir / "pipeline.resolved.yaml").is_file()


def test_a_second_run_skips_and_a_change_reruns_what_depends_on_it(project):
    project.run(), project.ran()
    again = project.run()
    assert project.ran() == []
    assert again.stdout == "first is 1\nsecond is 2\n"
    project.run("--set", "steps.second.value=5")
    assert project.ran() == ["second"]
    project.run("--set", "steps.second.value=5", "--set", "steps.first.value=2")
    assert project.ran() == ["first", "second"]


def test_from_only_and_dry_run(project):
    project.run(), project.ran()
    project.run("--from", "second")
    assert project.ran() == ["second"]
    project.run("--only", "first")
    assert project.ran() == ["first"]
    plan = project.run("--dry-run", "--set", "steps.first.value=9")
    assert project.ran() == []
    assert [line.split()[:2] for line in plan.stdout.splitlines()] == [["run", "first"], ["run", "second"]]
    assert "configuration or inputs changed" in plan.stdout


def test_a_step_whose_directory_was_deleted_runs_again(project):
    project.run(), project.ran()
    (project.run_dir / "first").rmdir()
    plan = project.run("--dry-run")
    assert "its directory is gone" in plan.stdout
    assert project.run().returncode == 0
    assert project.ran() == ["first", "second"]


def test_only_uses_what_lies_on_disk_and_is_remembered_as_such(project):
    project.run()
    assert project.run("--set", "steps.first.value=5", "--only", "second").stdout == "first is 1\nsecond is 2\n"
    assert project.run("--set", "steps.first.value=5").stdout == "first is 5\nsecond is 6\n"


def test_what_stands_on_a_redone_step_is_done_again_even_after_a_failure(project):
    project.run()
    project.write("first", "second", first="behave: fail")
    assert project.run().returncode == 1
    project.write("first", "second")
    project.ran()
    project.run()
    assert project.ran() == ["first", "second"]
    project.run("--only", "first")
    project.run()
    assert project.ran() == ["first", "second"]


def test_an_edited_inline_plugin_runs_its_steps_again(project):
    plugin = project.folder / "my_toy_steps.py"
    plugin.write_text(TOY.read_text())
    project.file.write_text(project.file.read_text().replace(str(TOY), str(plugin)))
    project.run(), project.ran()
    plugin.write_text(TOY.read_text() + "\n# edited\n")
    project.run()
    assert project.ran() == ["first", "second"]


def test_a_step_that_returns_no_json_fails_by_name(project):
    project.write("first", "second", second="behave: return_no_json")
    done = project.run()
    assert done.returncode == 1
    assert "step `second` returned what is no plain JSON" in done.stderr
    assert project.manifest()["steps"]["second"]["status"] == "failed"


def test_a_directory_made_but_not_recorded_is_no_obstacle(project):
    (project.run_dir / "first").mkdir(parents=True)
    assert project.run().returncode == 0


def test_a_plugin_named_twice_is_loaded_once(project):
    done = project.run("--inline-plugin", str(TOY))
    assert done.returncode == 0, done.stderr


def test_an_inline_plugin_must_not_replace_a_module(project):
    plugin = project.folder / "random.py"
    plugin.write_text(TOY.read_text())
    project.file.write_text(project.file.read_text().replace(str(TOY), str(plugin)))
    done = project.run()
    assert done.returncode == 1
    assert "has the name of another module, `random`; rename the file" in done.stderr


def test_only_a_step_whose_inputs_are_missing(project):
    done = project.run("--only", "second")
    assert done.returncode == 1
    assert "step `second` needs `first`, which is not made yet" in done.stderr


def test_unknown_step_in_from(project):
    done = project.run("--from", "third")
    assert done.returncode == 1
    assert "no step is called `third`" in done.stderr
    assert "there are: first, second" in done.stderr


def test_json_output(project):
    done = project.run("--json")
    result = json.loads(done.stdout)
    assert result["headlines"] == ["first is 1", "second is 2"]
    assert result["steps"]["second"]["status"] == "done"


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        ("fail", "error: the step failed\n  -> do better"),
        ("fill_disk", "cannot write to"),
        ("crash", "this is a fault in occframe or a plugin"),
    ],
)
def test_a_failing_step_keeps_what_was_done(project, behave, message):
    project.write("first", "second", second=f"behave: {behave}")
    done = project.run()
    assert done.returncode == 1
    assert message in done.stderr
    assert project.manifest()["steps"]["second"]["status"] == "failed"
    project.ran()
    project.write("first", "second")
    assert project.run().stdout == "first is 1\nsecond is 2\n"
    assert project.ran() == ["second"]


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def start_waiting(project) -> subprocess.Popen[str]:
    project.write("first", "second", second="behave: wait")
    running = subprocess.Popen(project.command(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for((project.run_dir / "second" / "kept").exists)
    return running


def test_ctrl_c_keeps_what_was_done_and_the_next_run_goes_on(project):
    running = start_waiting(project)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "run the same command again to go on" in errors
    assert project.manifest()["steps"]["second"]["status"] == "interrupted"
    project.ran()
    again = project.run()
    assert again.stdout == "first is 1\nsecond is 2\n"
    assert "with the same inputs" in again.stderr
    assert project.ran() == ["second"]


def test_a_killed_run_goes_on_too(project):
    running = start_waiting(project)
    running.kill()
    running.communicate(timeout=20)
    project.ran()
    assert project.run().stdout == "first is 1\nsecond is 2\n"
    assert project.ran() == ["second"]


def test_a_changed_step_does_not_see_what_an_interrupted_attempt_left(project):
    start_waiting(project).kill()
    project.write("first", "second", second="value: 7")
    assert project.run().stdout == "first is 1\nsecond is 8\n"
    assert not (project.run_dir / "second" / "kept").exists()


def test_two_runs_in_one_directory_the_second_refuses(project):
    running = start_waiting(project)
    try:
        second = project.run()
    finally:
        running.kill()
        running.communicate(timeout=20)
    assert second.returncode == 1
    assert f"another run uses this directory: process {running.pid} on" in second.stderr
    assert "--set run_dir=PATH" in second.stderr


def test_a_run_directory_that_cannot_be_written(project):
    # /proc refuses new folders even to root, as a read-only mount does.
    done = project.run("--set", "run_dir=/proc/occframe-run")
    assert done.returncode == 1
    assert "cannot write to the run directory /proc/occframe-run" in done.stderr
    assert "--set run_dir=PATH" in done.stderr


def test_a_run_directory_that_is_a_file(project):
    project.run_dir.write_text("not a folder")
    done = project.run()
    assert done.returncode == 1
    assert "cannot write to the run directory" in done.stderr


def test_a_folder_the_run_did_not_make_is_never_deleted(project):
    precious = project.run_dir / "first" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    done = project.run()
    assert done.returncode == 1
    assert "was not made by a run in this directory" in done.stderr
    assert precious.read_text() == "years of work"


def test_a_manifest_that_is_none(project):
    project.run_dir.mkdir()
    (project.run_dir / "manifest.json").write_text("{")
    done = project.run()
    assert done.returncode == 1
    assert "is no manifest of a run" in done.stderr


def test_a_run_directory_in_memory(project):
    """Any fsspec URL serves; this one lives as long as the process."""
    done = project.run("--set", "run_dir=memory://runs/toy")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "first is 1\nsecond is 2\n"


def test_a_configuration_error_exits_with_2(project):
    project.write("first", first="vallue: 3")
    done = project.run()
    assert done.returncode == 2
    assert f"{project.file}:8:5: steps.first.vallue: unknown option `vallue`" in done.stderr
    assert "did you mean `value`?" in done.stderr


def test_an_inline_plugin_that_does_not_exist(project):
    project.file.write_text(project.file.read_text().replace(str(TOY), "nowhere.py"))
    done = project.run()
    assert done.returncode == 2
    assert "no inline plugin at" in done.stderr


def test_an_inline_plugin_is_not_loaded_unasked(project):
    (project.folder / "occframe_plugin.py").write_text("raise SystemExit('ran unasked')")
    assert project.run().returncode == 0


def test_another_runs_output_by_its_path(project):
    project.run()
    other = project.folder / "other.yaml"
    other.write_text(
        f"run_dir: {project.folder}/other\nplugins: [{TOY}]\ndevice: cpu\nsteps:\n"
        f"  - {{use: make, name: third, trace: {project.trace}, needs: {project.run_dir}/second}}\n"
    )
    command = [sys.executable, "-m", "occframe", "run", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "third is 3\n", done.stderr
    missing = subprocess.run(
        [*command, "--set", f"steps.third.needs={project.run_dir}/tenth"], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert "is not the finished step of a run" in missing.stderr


def test_stdout_closed_early_is_no_fault(project):
    project.run()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(project.command(), stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in done.stderr
