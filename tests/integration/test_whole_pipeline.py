"""From faces to a report through the command line, small; then what stands on a finished run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from occframe.bench.suite import expand, load_suite
from occframe.plugins import PluginRegistry
from occframe.schema import pipeline_schema
from occframe.yamlfile import parse_yaml, read_yaml

ROOT = Path(__file__).parents[2]
SMALL = [
    "--set", "data.faces={use: synthetic, identities: 12, images: 8, splits: {train: {identities: 8}, "
    "test: {identities: rest}, enrolled: {of: test, images: 4}, probe: {of: test, images: rest}}}",
    "--set", "steps.recogniser.backbone={use: mobilefacenet, input_size: [32, 32]}",
    "--set", "steps.recogniser.epochs=15",
    "--set", "steps.recogniser.batch_size=16",
]  # fmt: skip


def occframe(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occframe", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the quick start ran on drawn faces; ``.done`` is what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    done = occframe("run", str(ROOT / "pipelines" / "quickstart.yaml"), *SMALL, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_headlines_name_both_conditions_and_the_report(finished):
    folder, done = finished
    assert "clean  occluded" in done.stdout
    assert "identification rank-1" in done.stdout
    report = folder / "runs" / "quickstart" / "report" / "report.html"
    assert str(report) in done.stdout
    page = report.read_text()
    assert "data:image/jpeg;base64," in page
    assert len(page) < 3_000_000


def test_the_manifest_says_how_it_came_about(finished):
    folder, _ = finished
    manifest = json.loads((folder / "runs" / "quickstart" / "manifest.json").read_text())
    assert {"faces"} == set(manifest["run"]["data"])
    assert manifest["run"]["seed"] == 7
    assert all(step["status"] == "done" for step in manifest["steps"].values())
    figures = manifest["steps"]["evaluate"]["metrics"]
    assert 0.25 < figures["identification.clean.rank-1"] <= 1


def test_a_second_run_does_nothing_and_says_the_same(finished):
    folder, done = finished
    again = occframe("run", str(ROOT / "pipelines" / "quickstart.yaml"), *SMALL, folder=folder)
    assert again.stdout == done.stdout
    assert again.stderr.count("skipped (done, nothing changed)") == 8


def test_a_changed_matcher_leaves_training_and_embedding_alone(finished):
    folder, _ = finished
    arguments = ["run", str(ROOT / "pipelines" / "quickstart.yaml"), *SMALL, "--set", "steps.index.matcher=torch"]
    plan = occframe(*arguments, "--dry-run", folder=folder).stdout.splitlines()
    assert [line.split()[0] for line in plan] == ["skip"] * 4 + ["run"] * 4


def test_bench_compares_systems_and_keeps_what_is_done(finished):
    folder, _ = finished
    suite = folder / "suite.yaml"
    suite.write_text("""\
name: small
run_dir: runs/suite
data:
  faces: {use: synthetic, identities: 4, images: 4, seed: 5}
systems:
  trained: {model: runs/quickstart/recogniser}
  loaded:
    backbone: {use: mobilefacenet, input_size: [32, 32]}
    weights: runs/quickstart/recogniser/model.safetensors
conditions:
  clean: null
  covered: {use: rectangles, coverage: [0.3, 0.4]}
trials:
  who: {data: faces, protocol: identification}
""")
    done = occframe("bench", "run", "suite.yaml", "--out", "result.json", "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result == json.loads(done.stdout)
    cells = {(row["system"], row["condition"]): row["metrics"] for row in result["rows"]}
    assert set(cells) == {(s, c) for s in ("trained", "loaded") for c in ("clean", "covered")}
    # One network, loaded in two ways, sees the same occlusions.
    assert cells["trained", "covered"] == cells["loaded", "covered"]
    assert cells["trained", "clean"]["rank-1"] > 0
    again = occframe("bench", "run", "suite.yaml", folder=folder)
    assert "skipped (done, nothing changed)" in again.stderr
    assert "written to runs/suite/result.json" in again.stdout
    again_result = json.loads((folder / "runs" / "suite" / "result.json").read_text())
    assert again_result["rows"] == result["rows"]
    assert again_result["suite_hash"] == result["suite_hash"]


def test_cells_that_sound_alike_are_not_mixed_up():
    registry = PluginRegistry.discover()
    text = """\
name: s
run_dir: r
data: {faces: {use: synthetic, splits: {test: {identities: rest}}}, faces-test: synthetic}
systems: {a: {model: runs/x/y}}
conditions: {clean: {use: rectangles}, plain: null}
trials:
  one: {data: faces.test, protocol: identification}
  two: {data: faces-test, protocol: identification}
"""
    pipeline = expand(load_suite(parse_yaml(text, "suite.yaml"), registry), "suite.yaml", registry)
    embeds = {(str(s.config.data), s.config.occlusion is None) for s in pipeline.config.steps if s.use == "embed"}
    assert embeds == {(data, plain) for data in ("faces.test", "faces-test") for plain in (True, False)}
    one = pipeline.steps["evaluate-a-one"].config
    assert one.reference == one.probes["plain"] != one.probes["clean"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  trained: {model: runs/x/y, weights: z}", "`weights` are of a `backbone`"),
        ("  trained: {}", "a system is one of `model: RUN_DIR/STEP`, `backbone`"),
        ("  trained: {modell: runs/x/y}", "did you mean `model`?"),
        ("  trained: {model: runs/x/y}", "runs/x/y is not the finished step of a run"),
    ],
)
def test_a_wrong_suite(tmp_path, line, message):
    (tmp_path / "suite.yaml").write_text(
        f"name: s\nrun_dir: r\ndata: {{faces: synthetic}}\nsystems:\n{line}\n"
        "trials: {who: {data: faces, protocol: identification}}\n"
    )
    done = occframe("bench", "run", "suite.yaml", folder=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr


def test_every_pipeline_of_ours_is_valid_and_fits_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(pipeline_schema(PluginRegistry.discover()))
    for file in sorted((ROOT / "pipelines").glob("*.yaml")):
        assert [error.message for error in validator.iter_errors(read_yaml(file).value)] == [], file
        assert occframe("validate", str(file), folder=ROOT).returncode == 0, file
