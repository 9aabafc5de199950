"""What ``occframe new-plugin`` writes is built, installed and put to the suite, for every kind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from occframe.errors import OccframeError
from occframe.plugins import HOOK_KINDS, KINDS
from occframe.scaffold import KINDS as SCAFFOLDED
from occframe.scaffold import write_project
from tests.wheels import environment, install, wheel_of


def test_there_is_a_project_for_every_kind():
    assert set(SCAFFOLDED) == set(KINDS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Outcomes by id, of all projects in one environment."""
    folder = tmp_path_factory.mktemp("projects")
    names = [f"sample-{kind}" for kind in KINDS]
    for name, kind in zip(names, KINDS, strict=True):
        write_project(folder, name, kind)
    install([wheel_of(folder / name, folder / "wheels") for name in names], folder / "site")
    arguments = [f"--occframe-plugin={name}" for name in names]
    arguments += ["--occframe-tier=all", f"--occframe-report={folder / 'report.json'}", "-p", "no:cacheprovider", "-q"]
    empty = folder / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "pytest", *arguments]
    done = subprocess.run(
        command, cwd=empty, env=environment(folder / "site"), capture_output=True, text=True, check=False
    )
    report = json.loads((folder / "report.json").read_text())
    assert done.returncode == 0, done.stdout[-4000:]
    return {result["id"]: result["outcome"] for result in report["results"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_project_passes(results, kind):
    mine = {name: outcome for name, outcome in results.items() if name.startswith(f"{kind}/sample-{kind}/")}
    assert set(mine.values()) <= {"passed", "skipped"}
    assert sum(outcome == "passed" for outcome in mine.values()) >= (4 if kind == "command" else 10)
    assert results[f"plugin/sample-{kind}/loads"] == "passed"


@pytest.mark.parametrize(("hook", "kind"), HOOK_KINDS.items())
def test_a_project_registers_by_its_hook(tmp_path, hook, kind):
    files = {file.relative_to(tmp_path / "quiet-owl").as_posix() for file in write_project(tmp_path, "quiet-owl", kind)}
    assert {"pyproject.toml", "README.md", ".github/workflows/tests.yml", "tests/test_conformance.py"} <= files
    assert f"def {hook}(register):" in (tmp_path / "quiet-owl" / "quiet_owl" / "__init__.py").read_text()
    for file in (tmp_path / "quiet-owl").rglob("*.*"):
        left = file.is_file() and "{{" in file.read_text().replace("${{", "")
        assert not left, file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Masks", "is no name for a plugin"),
        ("my.masks", "is no name"),
        ("class", "is no name"),
        ("json", "is there already"),
    ],
)
def test_names_that_would_hurt_are_refused(tmp_path, name, message):
    with pytest.raises(OccframeError, match=message):
        write_project(tmp_path, name, "loss")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    write_project(tmp_path, "quiet-owl", "loss")
    (tmp_path / "quiet-owl" / "README.md").write_text("mine")
    with pytest.raises(OccframeError, match="is there already"):
        write_project(tmp_path, "quiet-owl", "loss")
    assert (tmp_path / "quiet-owl" / "README.md").read_text() == "mine"
