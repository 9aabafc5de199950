"""What only an installed distribution can break, and how pytest and the command line tell of it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from occframe.testing import conformance_tests

GOOD = """
    from occframe import hookimpl

    @hookimpl
    def occframe_register_protocols(register):
        register("fine", "{name}_parts:build", config="{name}_parts:Options", summary="fine")
    """
PARTS = """
    import {imports}
    from occframe import Config, ProtocolResult

    class Options(Config):
        pass

    class Fine:
        def evaluate(self, reference, probe, hits):
            other = [a for a in reference.ids if reference is probe]
            return ProtocolResult({{"share (of rows)": len(other) / 2}})

    def build(config, context):
        return Fine()
    """


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``installed(name, module, **modules)``: a distribution on the path, as pip leaves one."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(name: str, module: str, **modules: str) -> None:
        for file, text in {name: module, **modules}.items():
            (tmp_path / f"{file}.py").write_text(textwrap.dedent(text))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[occframe]\n{name} = {name}\n")

    return install


def check(name: str, *arguments: str) -> dict[str, dict[str, str]]:
    """Results by id, as ``occframe plugins check --json`` gives them."""
    command = [sys.executable, "-m", "occframe", "plugins", "check", name, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["conforms"] else 1), done.stderr
    return {result["id"]: result for result in report["results"]}


def failures(results: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: result["message"] for name, result in results.items() if result["outcome"] == "failed"}


def test_a_plugin_that_does_not_import_is_caught(installed):
    installed("absent", "import nothing_of_that_name\n")
    results = check("absent")
    assert "nothing_of_that_name" in failures(results).pop("plugin/absent/loads")
    assert {result["outcome"] for name, result in results.items() if not name.endswith("/loads")} == {"skipped"}


def test_a_plugin_that_registers_nothing_is_caught(installed):
    installed("silent", "def register_protocols(register): ...\n")
    assert list(failures(check("silent"))) == ["plugin/silent/registers_components"]


def test_a_hook_that_takes_no_register_is_caught(installed):
    installed(
        "deaf",
        """
        from occframe import hookimpl

        @hookimpl
        def occframe_register_protocols():
            return
        """,
    )
    assert (
        failures(check("deaf"))["plugin/deaf/hook_signatures"] == "occframe_register_protocols takes (), not (register)"
    )


def test_a_configuration_that_imports_torch_is_caught(installed):
    installed("heavy", GOOD.format(name="heavy"), heavy_parts=PARTS.format(imports="torch"))
    assert "imports torch" in failures(check("heavy"))["protocol/fine/loads_light"]


def test_a_plugin_that_imports_torch_to_register_is_caught(installed):
    installed(
        "heavy", "import torch\n" + textwrap.dedent(GOOD.format(name="heavy")), heavy_parts=PARTS.format(imports="os")
    )
    assert "imports torch" in failures(check("heavy"))["protocol/fine/loads_light"]


def test_pytest_shows_an_id_a_check_and_the_versions(installed, tmp_path):
    installed("nimble", GOOD.format(name="nimble"), nimble_parts=PARTS.format(imports="os"))
    report = tmp_path / "report.json"
    folder = tmp_path / "empty"
    folder.mkdir()
    arguments = ["--occframe-plugin", "nimble", "--occframe-report", str(report), "-v", "-p", "no:cacheprovider"]
    done = run_pytest(folder, *arguments)
    assert "occframe: 0.1.0, plugin API 1, conformance suite 1.0; nimble 1.0, torch" in done.stdout
    assert "protocol/fine/gives_figures PASSED" in done.stdout
    written = json.loads(report.read_text())
    assert written["versions"]["nimble"] == "1.0"
    outcomes = {result["id"]: result["outcome"] for result in written["results"]}
    assert outcomes["plugin/nimble/loads"] == "passed"
    assert outcomes["protocol/fine/gives_figures"] == "passed"
    chosen = run_pytest(folder, *arguments, "-k", "gives_figures")
    assert "1 passed" in chosen.stdout


def test_a_two_line_test_file_and_expected_failures(installed, tmp_path):
    installed("nimble", GOOD.format(name="nimble"), nimble_parts=PARTS.format(imports="os"))
    folder = tmp_path / "tests"
    folder.mkdir()
    line = "from occframe.testing import conformance_tests\ntest_conformance = conformance_tests('nimble'{})\n"
    (folder / "test_short.py").write_text(line.format(""))
    (folder / "test_long.py").write_text(line.format(", expected_failures={'gives_figures': 'it has none yet'}"))
    report = tmp_path / "report.json"
    done = run_pytest(folder, "-v", "--occframe-report", str(report), "-p", "no:cacheprovider")
    assert "test_short.py::test_conformance[protocol/fine/gives_figures] PASSED" in done.stdout
    assert any(result["id"] == "protocol/fine/is_deterministic" for result in json.loads(report.read_text())["results"])
    # It passes, so the expectation is stale, and that is a failure.
    assert "[XPASS(strict)] it has none yet" in done.stdout


def test_an_expected_failure_of_no_check_is_an_error():
    with pytest.raises(
        pytest.UsageError, match="expected_failures names no check of occframe: tracker/nobody/is_silent"
    ):
        conformance_tests("trackers", expected_failures={"tracker/nobody/is_silent": "there is none"})


def test_an_unknown_distribution_is_a_usage_error(tmp_path):
    done = run_pytest(tmp_path, "--occframe-plugin", "nobody", "-p", "no:cacheprovider")
    assert done.returncode == 4
    assert "no installed distribution `nobody`" in done.stderr


def test_pytest_without_the_options_imports_nothing_heavy(tmp_path):
    (tmp_path / "test_light.py").write_text(
        "import sys\ndef test_light():\n"
        "    assert not {'torch', 'numpy', 'pydantic', 'occframe.plugins'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist")
    assert "1 passed" in done.stdout, done.stdout


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
