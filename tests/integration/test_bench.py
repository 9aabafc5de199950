"""Suites from the command line: systems of every kind, sweeps, what is stale, tables, comparisons, the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from occframe import OccframeError
from occframe.bench import inputs as bench_inputs
from occframe.bench.faces import faces_of, hardest
from occframe.bench.results import cells
from occframe.bench.suite import expand, load_suite
from occframe.cli import cli
from occframe.component import BackboneBlock
from occframe.data import FaceParquetWriter
from occframe.gallery import Gallery, GalleryWriter
from occframe.models import save_model
from occframe.plugins import PluginRegistry
from occframe.standalone import parse_block, standalone_context
from occframe.yamlfile import read_yaml
from occframe_datasets.synthetic import SyntheticFaces

SUITE = """\
name: small
run_dir: {folder}/run
data:
  faces: {{use: parquet, url: {folder}/faces.parquet, aligned: true}}
systems:
  network: {{backbone: {{use: mobilefacenet, input_size: [32, 32]}}, weights: {folder}/model/model.safetensors}}
  function: {{backbone: {{use: callable, function: "occframe_backbones.examples:mean_colours", input_size: [32, 32]}}}}
  {rival}
sweeps:
  boxes: {{occlusion: rectangles, axis: coverage, values: [0.1, {worst}]}}
trials:
  pairs:
    data: faces
    protocol: {{use: verification, fars: [0.1], draw: {{genuine: 40, impostor: 200}}, rounds: 50}}
"""
SUITES = Path(__file__).parents[2] / "benchmarks" / "suites"
FACE = 'src="data:image/jpeg;base64,'


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_faces(folder)
    context = standalone_context()
    torch.manual_seed(0)
    block = parse_block(BackboneBlock, {"use": "mobilefacenet", "input_size": [32, 32]}, context)
    save_model(str(folder / "model"), context.build(block), block)
    (folder / "suite.yaml").write_text(SUITE.format(folder=folder, rival="", worst=0.4))
    run("bench", "run", folder / "suite.yaml")
    return folder


def write_faces(folder, seed=0):
    faces = SyntheticFaces(identities=8, images=4, size=32, seed=seed)
    with FaceParquetWriter(str(folder / "faces.parquet")) as writer:
        for row, name in enumerate(faces.ids):
            writer.add(name, faces.subjects[row], faces.read([row])[0])


@pytest.fixture(scope="module")
def result(folder):
    return json.loads((folder / "run" / "result.json").read_text())


def test_every_cell_has_figures_intervals_and_counts(result):
    cells = {(row["system"], row["condition"]): row for row in result["rows"]}
    conditions = ("clean", "boxes-0_1", "boxes-0_4")
    assert set(cells) == {(system, at) for system in ("network", "function") for at in conditions}
    row = cells["function", "clean"]
    low, high = row["intervals"]["tar@far=1e-1"]
    assert low <= row["metrics"]["tar@far=1e-1"] <= high
    assert row["counts"]["genuine pairs"] == 40
    assert result["cpu_seconds"] > 0
    assert set(result["inputs"]) == {"data.faces", "systems.network", "systems.function", "trials.pairs"}


def test_two_processes_find_what_one_finds(folder, result, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.format(folder=folder, rival="", worst=0.4).replace(f"{folder}/run", f"{tmp_path}/run"))
    run("bench", "run", suite, "-j", 2)
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found.keys() == result.keys()
    assert found["inputs"] == result["inputs"]
    for row, other in zip(found["rows"], result["rows"], strict=True):
        # Sums of another number of threads are rounded otherwise.
        assert row["metrics"] == pytest.approx(other["metrics"], abs=1e-5)
        assert {**row, "metrics": 0, "intervals": 0} == {**other, "metrics": 0, "intervals": 0}
    said = run("bench", "run", suite, "-j", 2)
    assert said.count("skipped") == len(list((tmp_path / "run").glob("*/")))


def test_embeddings_of_a_rival_take_part_without_its_code(folder, result, tmp_path):
    """The network's own embeddings, as a gallery: the same figures."""
    embeds = {path.name: path for path in (folder / "run").glob("embed-network-*")}
    galleries = {}
    for at, key in (("clean", "faces"), ("boxes-0_1", "faces/boxes-0_1"), ("boxes-0_4", "faces/boxes-0_4")):
        evaluation = json.loads((folder / "run" / "evaluate-network-pairs" / "evaluation.json").read_text())
        galleries[key] = str(embeds[evaluation["probes"][at]["name"]])
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        SUITE.format(folder=folder, rival=f"rival: {{galleries: {json.dumps(galleries)}}}", worst=0.4).replace(
            f"{folder}/run", f"{tmp_path}/run"
        )
    )
    run("bench", "run", suite)
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    figures = {(row["system"], row["condition"]): row["metrics"] for row in rows}
    for at in ("clean", "boxes-0_1", "boxes-0_4"):
        assert figures["rival", at] == figures["network", at]
    suite.write_text(suite.read_text().replace("faces/boxes-0_1", "faces/boxes"))
    with pytest.raises(OccframeError, match="system `rival` has no gallery of faces/boxes-0_1"):
        run("bench", "run", suite)


def test_a_system_of_another_run_from_the_command_line(folder, result, tmp_path):
    """As `--system` names it, it is the network of the suite under another name."""
    text = re.sub(r"  function: .*\n", "", SUITE.format(folder=folder, rival="", worst=0.4))
    alone, suite = tmp_path / "alone.yaml", tmp_path / "suite.yaml"
    alone.write_text(text.replace(f"{folder}/run", f"{tmp_path}/alone"))
    suite.write_text(text.replace(f"{folder}/run", f"{tmp_path}/run"))
    run("bench", "run", alone)
    systems = ("--system", f"ours={folder}/run/model-network", "--system", f"again={tmp_path}/alone")
    run("bench", "run", suite, *systems)
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    figures = {(row["system"], row["condition"]): row["metrics"] for row in rows}
    assert figures["ours", "boxes-0_4"] == figures["again", "boxes-0_4"] == figures["network", "boxes-0_4"]
    assert "all 9 rows" in run("bench", "check", suite, tmp_path / "run", *systems)
    with pytest.raises(OccframeError, match="6 of 9 rows are stale"):
        run("bench", "check", suite, tmp_path / "run")
    for wrong, message in {
        "ours": "is not NAME=PATH",
        f"network={tmp_path}/alone": "has a system `network` already",
        f"ours={tmp_path}/nowhere": "is not the finished step of a run",
        f"ours={folder}/run": "they are model-network, model-function: name one",
    }.items():
        with pytest.raises(OccframeError, match=message):
            run("bench", "run", suite, "--system", wrong)


def test_a_second_run_reads_no_picture(folder, result, monkeypatch):
    monkeypatch.setattr(bench_inputs, "content_digest", lambda faces: pytest.fail("read again"))
    said = run("bench", "run", folder / "suite.yaml")
    assert re.search(r"network +│ pairs │ boxes-0_4 │ +\d+\.\d\d ± \d\.\d\d % │", said)
    assert json.loads((folder / "run" / "result.json").read_text())["inputs"] == result["inputs"]


def test_a_gallery_that_changed_is_copied_again(folder, tmp_path):
    source = next((folder / "run").glob("embed-function-*"))
    schema = Gallery.open(str(source)).schema
    vectors = np.eye(schema.dim, dtype=np.float32)[:2]
    with GalleryWriter(str(tmp_path / "g"), schema) as writer:
        writer.write(["a"], ["p"], vectors[:1])
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(f"run_dir: {tmp_path}/run\nsteps:\n  - {{use: gallery, url: {tmp_path}/g}}\n")
    run("run", pipeline)
    assert Gallery.open(str(tmp_path / "run" / "gallery")).count == 1
    with GalleryWriter(str(tmp_path / "g"), schema) as writer:
        writer.write(["b"], ["p"], vectors[1:])
    run("run", pipeline)
    assert Gallery.open(str(tmp_path / "run" / "gallery")).count == 2


def test_what_is_stale_is_named(folder, tmp_path):
    assert "all 6 rows are of the suite as it is" in run("bench", "check", folder / "suite.yaml", folder / "run")
    other = tmp_path / "suite.yaml"
    other.write_text(SUITE.format(folder=folder, rival="", worst=0.5))
    with pytest.raises(OccframeError, match=r"2 of 6 rows are stale"):  # the other points of the sweep are not
        run("bench", "check", other, folder / "run")
    table = run("bench", "table", folder / "run", "--suite", other)
    assert table.count("boxes-0_4") == 2
    assert "| network † | boxes-0_4 |" in table
    assert table.count("†") == 3
    other.write_text(SUITE.format(folder=folder, rival="", worst=0.4).replace("coverage", "rotation"))
    with pytest.raises(OccframeError, match=r"4 of 6 rows are stale"):
        run("bench", "check", other, folder / "run")
    assert "| network | clean |" in table
    changed = tmp_path / "changed"
    changed.mkdir()
    write_faces(changed, seed=1)
    other.write_text(SUITE.format(folder=folder, rival="", worst=0.4).replace(f"{folder}/faces", f"{changed}/faces"))
    with pytest.raises(OccframeError, match=r"6 of 6 rows are stale"):
        run("bench", "check", other, folder / "run")


def test_a_table_with_intervals(folder, result):
    table = run("bench", "table", folder / "run", "--figure", "tar@far=1e-1")
    assert "| pairs | condition | TAR @ FAR 1e-1 |" in table
    assert re.search(r"\| function \| boxes-0_4 \| \d+\.\d\d % \[\d+\.\d\d, \d+\.\d\d\] \|", table)
    with pytest.raises(OccframeError, match="no row has the figure `rank-1`"):
        run("bench", "table", folder / "run", "--figure", "rank-1")


def test_tables_of_a_page_are_filled_and_checked(folder, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n<!-- bench: {folder}/run/result.json eer -->\n<!-- /bench -->\n\nThe end.\n")
    with pytest.raises(OccframeError, match="are stale"):
        run("bench", "fill", page, "--check")
    assert "written anew" in run("bench", "fill", page)
    assert "| network | clean |" in page.read_text()
    assert page.read_text().endswith("<!-- /bench -->\n\nThe end.\n")
    assert "up to date" in run("bench", "fill", page, "--check")
    page.write_text("# Title\n")
    with pytest.raises(OccframeError, match="has no block to fill"):
        run("bench", "fill", page)


def test_two_systems_are_compared_over_the_same_people(folder):
    text = run("bench", "compare", f"{folder}/run:network", "function")
    assert "pairs, boxes-0_4" in text
    assert re.search(r"TAR @ FAR 1e-1 .* points, p = ", text)
    assert "McNemar: of 240 trials" in text
    found = json.loads(run("bench", "compare", f"{folder}/run:network", "network", "--json"))
    assert all(item["difference"] == 0 == item["low"] for cell in found for item in cell["found"]["differences"])
    with pytest.raises(OccframeError, match="no system `rival`"):
        run("bench", "compare", f"{folder}/run:network", "rival")


def test_a_result_without_its_cells(folder, result, tmp_path):
    elsewhere = json.loads(json.dumps(result))
    elsewhere["configuration"]["run_dir"] = str(tmp_path / "gone")
    (tmp_path / "result.json").write_text(json.dumps(elsewhere))
    assert "| network | clean |" in run("bench", "table", tmp_path / "result.json")
    with pytest.raises(OccframeError, match="which is not here"):
        run("bench", "compare", f"{tmp_path}/result.json:network", "function")


def test_the_page(folder, tmp_path):
    row = {"name": "embed", "unit": "images/s", "ours": 300, "theirs": 150.5, "ratio": 2, "bar": ">= 1", "rounds": 5}
    speed = {"date": "2026-01-02", "machine": "one", "rows": [row | {"ratio_low": 1.5, "ratio_high": 2.25}]}
    (tmp_path / "perf-embed.json").write_text(json.dumps(speed))
    run("bench", "report", folder / "run", "-o", tmp_path / "report.html", "--speed", tmp_path / "perf-embed.json")
    page = (tmp_path / "report.html").read_text()
    assert "Speed: embed" in page
    assert "[1.50, 2.25]" in page
    assert page.count("<summary>pairs, ") == 1
    assert "Benchmark small" in page
    assert "over coverage, boxes, pairs" in page
    assert "default-src 'none'" in page
    assert len(page) < 3_000_000
    assert page.count("Rejected, though the same person (pairs, ") == 2
    shown = page.count(FACE)
    assert shown > 0
    assert shown % 2 == 0
    run("bench", "report", folder / "run", "-o", tmp_path / "report.html", "--no-faces")
    page = (tmp_path / "report.html").read_text()
    assert "Rejected, though the same person (pairs, " in page
    assert FACE not in page
    with pytest.raises(OccframeError, match="is no result of a benchmark of speed"):
        run("bench", "report", folder / "run", "-o", tmp_path / "x.html", "--speed", folder / "suite.yaml")


def test_faces_of_data_that_was_moved_or_changed(folder, result, tmp_path):
    """The same pictures written anew are the same data; others are not shown in their place."""
    write_faces(folder)
    run("bench", "report", folder / "run", "-o", tmp_path / "same.html")
    assert FACE in (tmp_path / "same.html").read_text()
    try:
        write_faces(folder, seed=1)
        said = run("bench", "report", folder / "run", "-o", tmp_path / "other.html")
        assert "Pictures are left out: `faces` is not the data that" in said
        assert FACE not in (tmp_path / "other.html").read_text()
    finally:
        write_faces(folder)


def test_pictures_fill_the_page_and_no_more(folder, result):
    found = {row["trial"]: {} for row in result["rows"]}
    for row, of in cells(result):
        found[row["trial"]].setdefault(row["condition"], {})[row["system"]] = of
    worst = hardest(found)
    assert {condition for _, condition in worst} == {"boxes-0_4"}
    everything, problems = faces_of(result, worst, PluginRegistry.discover(), 1 << 20)
    assert problems == []
    assert set(everything) == {"pairs, network", "pairs, function"}
    size = sum(len(picture.uri) for of in everything.values() for picture in of.values())
    fewer, _ = faces_of(result, worst, PluginRegistry.discover(), size // 3)
    assert all(of.items() < everything[name].items() for name, of in fewer.items())
    assert all(fewer.values())
    assert not any(faces_of(result, worst, PluginRegistry.discover(), -1)[0].values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials:", "trials:\n  more: {data: faces, protocol: identification, conditions: [dark]}", "condition `dark`"),
        ("axis: coverage", "axis: darkness", "darkness"),
    ],
)
def test_wrong_suites(folder, tmp_path, old, new, message):
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.format(folder=folder, rival="", worst=0.4).replace(old, new, 1))
    with pytest.raises(Exception, match=message):
        run("bench", "run", suite)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_suites_of_the_project_are_valid(path):
    """Expanded: every generator takes every value of its sweep."""
    registry = PluginRegistry.discover()
    suite = load_suite(read_yaml(path), registry)
    evaluated = [block for block in expand(suite, path.name, registry).steps.values() if block.use == "evaluate"]
    assert len(evaluated) == len(suite.systems) * len(suite.trials)
