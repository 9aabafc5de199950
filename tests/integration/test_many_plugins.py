"""Fifty installed plugins are listed without being imported, and a broken one costs its own line and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.many_plugins import install

COUNT = 50


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    install(folder, COUNT)
    return folder


def occframe(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occframe", *arguments]
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_help_lists_the_commands_of_all_but_the_broken_one(site):
    done = occframe(site, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    verbs = [line.split()[0] for line in done.stdout.splitlines() if "does something" in line]
    assert sorted(verbs) == sorted(f"verb-{number}" for number in range(COUNT - 1))


def test_the_broken_one_has_a_line_and_the_others_their_components(site):
    listing = json.loads(occframe(site, "plugins", "--json").stdout)
    others = [plugin for plugin in listing["plugins"] if plugin["distribution"] != "occframe"]
    broken = [plugin for plugin in others if plugin["status"] != "loaded"]
    assert [plugin["name"] for plugin in broken] == [f"plugin-{COUNT - 1}"]
    assert broken[0]["error"] == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    losses = {item["name"] for item in listing["components"] if item["kind"] == "loss"}
    assert {f"loss-{number}" for number in range(COUNT - 1)} <= losses
