"""A stranger's wheel, installed beside occframe, takes the place of a bundled component through YAML alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from occframe.testing.fixtures import PipelineOutcome
from tests.wheels import environment, install, wheel_of

PROJECT = Path(__file__).parents[1] / "third_party_plugin"
PIPELINE = """
    device: cpu
    data:
      faces:
        use: synthetic
        identities: 6
        images: 4
        size: 32
        splits: {{all: {{identities: 6}}, enrolled: {{of: all, images: 2}}, probe: {{of: all, images: rest}}}}
    steps:
      - use: train
        name: net
        data: faces
        epochs: 1
        backbone: {{use: mobilefacenet, input_size: [32, 32]}}
        losses: [cosface]
      - {{use: embed, name: enrolled, data: faces.enrolled, model: net}}
      - {{use: embed, name: probe, data: faces.probe, model: net}}
      - {{use: index, gallery: enrolled, matcher: {matcher}}}
      - {{use: search, index: index, probes: {{clean: probe}}, k: 3}}
    """


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acme")
    install([wheel_of(PROJECT, folder / "wheels")], folder / "site")
    return folder / "site"


@pytest.fixture
def with_acme(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment(site).items():
        monkeypatch.setenv(key, value)


def occframe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occframe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_replaces_a_bundled_matcher_through_yaml(with_acme, run_pipeline):
    block = "{use: 'acme-faces:torch', log: searches.txt}"
    outcome: PipelineOutcome = run_pipeline(PIPELINE.format(matcher=block)).assert_ok()
    assert (outcome.folder / "searches.txt").read_text() == "12 queries among 12\n"
    assert "acme (acme-faces 2.3.0): loaded" in outcome.manifest["run"]["plugins"]
    galleries = outcome.folder / "run" / "enrolled"
    assert occframe("acme-count", str(galleries)).stdout == "6 people\n"


def test_the_plain_name_is_an_error_that_names_both(with_acme, run_pipeline):
    outcome = run_pipeline(PIPELINE.format(matcher="torch"))
    outcome.assert_failed(saying="matcher `torch` is registered by occframe 0.1.0 and acme-faces 2.3.0", code=2)
    assert "`use: occframe:torch` or `use: acme-faces:torch`" in outcome.stderr


def test_it_keeps_what_a_matcher_promises(with_acme):
    done = occframe("plugins", "check", "acme-faces", "--tier", "all", "--json")
    report = json.loads(done.stdout)
    assert report["conforms"], [result for result in report["results"] if result["outcome"] == "failed"]
    assert report["versions"]["acme-faces"] == "2.3.0"
    assert report["counts"]["passed"] > 30


def test_its_options_are_in_the_schema(with_acme):
    matchers = json.loads(occframe("schema").stdout)["$defs"]["MatcherBlock"]["anyOf"]
    acme = next(
        choice
        for choice in matchers
        if "acme-faces:torch" in choice.get("properties", {}).get("use", {}).get("enum", [])
    )
    assert acme["properties"]["log"]["description"] == "file to which every search adds a line"
