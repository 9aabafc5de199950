"""occframe gallery plan, index, search and calibrate, as typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from occframe.cli import cli
from occframe.component import BackboneBlock
from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter
from occframe.models import save_model
from occframe.standalone import parse_block, standalone_context
from occframe.types import ImageSpec
from occframe_datasets.synthetic import SyntheticFaces

DIM = 32
SCHEMA = GallerySchema(dim=DIM, model_fingerprint="m", image_spec=ImageSpec(), columns={"year": "int64"})


def run(*arguments: Any, fails: str | None = None) -> str:
    done = CliRunner().invoke(cli, ["gallery", *map(str, arguments)])
    if fails is not None:
        assert isinstance(done.exception, OccframeError), done.output
        assert re.search(fails, str(done.exception)), str(done.exception)
        return ""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def told(*arguments: Any) -> Any:
    return json.loads(run(*arguments, "--json"))


def people(count: int, seed: int = 0, first: int = 0) -> tuple[list[str], list[str], np.ndarray]:
    """Three pictures each of people who look alike in their pictures."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((count // 3, DIM)), 3, axis=0)
    rows = centres + 0.3 * rng.standard_normal(centres.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{seed}-{first + row}" for row in range(len(rows))]
    return names, [f"person {seed}-{(first + row) // 3}" for row in range(len(rows))], rows.astype(np.float32)


def write(url: Path, count: int, seed: int = 0) -> Gallery:
    names, subjects, rows = people(count, seed)
    with GalleryWriter(str(url), SCHEMA) as writer:
        writer.write(names, subjects, rows, {"year": [2000 + at % 20 for at in range(len(names))]})
    return Gallery.open(str(url))


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    write(tmp_path / "g", 600)
    return tmp_path / "g"


def test_plan_says_what_and_why(gallery: Path) -> None:
    made = told("plan", "-n", "10_000_000", "-d", "512", "--memory", "24GiB", "--recall", "0.99", "--cores", "2")
    chosen = made["chosen"]
    assert chosen["memory_bytes"] < 24 * 2**30
    assert chosen["expected_recall"] >= 0.99
    assert {"matcher", "build_seconds", "latency_ms", "why"} <= chosen.keys()
    assert all(item["against"] for item in made["others"])
    shown = run("plan", "-n", "10_000_000", "-d", "512", "--memory", "24GiB")
    assert "occframe gallery index GALLERY --matcher faiss --set profile=" in shown
    assert "600 embeddings of 32" in run("plan", gallery)
    assert "nothing fits" in run("plan", "-n", "10_000_000", "-d", "512", "--memory", "1MiB")
    run("plan", "-n", "many", "-d", "512", fails="`many` is no number of embeddings")
    run("plan", "-n", "5", fails="how many faces is missing")
    run("plan", "-n", "5", "-d", "5", "--memory", "lots", fails="`lots` is no amount of memory")


def test_an_index_is_built_kept_extended_measured_and_removed(gallery: Path) -> None:
    first = told("index", gallery)
    assert (first["done"], first["index"], first["rows"]) == ("built", "faiss-fp16", 600)
    names, subjects, rows = people(30, seed=1)
    opened = Gallery.open(str(gallery))
    opened.append(names[:6], subjects[:6], rows[:6], model_fingerprint="m", columns={"year": [2000] * 6})
    kept = told("index", gallery)
    assert (kept["done"], kept["rows"], kept["beside"]) == ("kept", 600, 6)
    assert "6 added and 0 deleted since, which searches see" in run("index", gallery)
    opened.append(names[6:], subjects[6:], rows[6:], model_fingerprint="m", columns={"year": [2000] * 24})
    opened.delete([names[0]])
    extended = told("index", gallery)
    assert (extended["done"], extended["rows"], extended["beside"]) == ("extended", 629, 0)
    measured = told("index", gallery, "--measure", "--queries", "20", "-k", "5")["measured"]
    assert measured["recall"] == 1
    assert (measured["k"], measured["queries"]) == (5, 20)
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]
    assert told("index", gallery)["measured"] == measured
    np.save(gallery.parent / "probes.npy", rows[:7])
    probed = run("index", gallery, "--measure", "--probes", gallery.parent / "probes.npy")
    assert "recall@10 1.0000 on 7 held-out queries" in probed
    other = told("index", gallery, "--matcher", "faiss", "--set", "profile=ivf-fp16", "--set", "lists=8")
    assert (other["done"], other["index"]) == ("built", "faiss-ivf-fp16")
    run("index", gallery, fails="has several indexes: faiss-fp16, faiss-ivf-fp16")
    again = told("index", gallery, "--matcher", "faiss", "--set", "profile=ivf-fp16", "--set", "lists=4")
    assert (again["done"], again["matcher"]["lists"]) == ("built", 4)
    assert told("index", gallery, "--name", "faiss-ivf-fp16", "--drop")["done"] == "removed"
    assert told("index", gallery, "--rebuild")["done"] == "built"
    run("index", gallery, "--matcher", "fais", fails="no matcher is called `fais`")


def test_an_index_nobody_can_read_is_built_anew(gallery: Path) -> None:
    run("index", gallery)
    header = gallery / "index" / "faiss-fp16" / "index.json"
    raw = json.loads(header.read_text())
    raw["details"]["library"] = "faiss 0.1"
    header.write_text(json.dumps(raw))
    names, subjects, rows = people(60, seed=1)
    Gallery.open(str(gallery)).append(names, subjects, rows, model_fingerprint="m", columns={"year": [2000] * 60})
    assert told("index", gallery)["rows"] == 660
    header.write_text("{")
    assert told("index", gallery)["done"] == "built"


def test_who_is_it_and_who_is_nobody(gallery: Path, tmp_path: Path) -> None:
    rows = people(600)[2]
    strangers = people(60, seed=5)[2]
    queries = tmp_path / "q.npy"
    np.save(queries, np.concatenate([rows[:2], strangers[:2]]))
    unindexed = told("search", gallery, queries, "-k", "3")
    assert [hit["subject"] for hit in unindexed[0]["hits"]] == ["person 0-0"] * 3
    assert "verdict" not in unindexed[0]
    run("index", gallery)
    indexed = told("search", gallery, queries, "-k", "3")
    for one, other in zip(indexed, unindexed, strict=True):
        assert [hit["id"] for hit in one["hits"]] == [hit["id"] for hit in other["hits"]]
        assert [hit["score"] for hit in one["hits"]] == pytest.approx([hit["score"] for hit in other["hits"]], abs=1e-5)
    write(tmp_path / "strangers", 300, seed=7)
    made = told("calibrate", gallery, "--strangers", tmp_path / "strangers", "--fpir", "0.05")
    assert (made["searches"], made["enrolled"]) == (300, 600)
    answered = told("search", gallery, queries)
    assert [answer["verdict"] for answer in answered] == ["person 0-0", "person 0-0", None, None]
    shown = run("search", gallery, queries, "-k", "1")
    assert re.search(r"\[2\] +unknown", shown)
    assert f"unknown: no score reaches {made['threshold']:.3f}" in shown
    assert told("search", gallery, queries, "--threshold", "-1")[2]["verdict"] is not None
    only = told("search", gallery, queries, "-k", "2", "--where", "year<2010", "--not-subject", "person 0-0")
    assert all(hit["subject"] != "person 0-0" for answer in only for hit in answer["hits"])
    chosen = told("search", gallery, tmp_path / "strangers", "--subject", "person 0-1", "-k", "9")
    assert len(chosen) == 300
    assert all([hit["subject"] for hit in answer["hits"]] == ["person 0-1"] * 3 for answer in chosen)
    own = told("calibrate", gallery, "--fpir", "0.05")
    assert own["threshold"] == pytest.approx(made["threshold"], abs=0.1)
    for arguments, message in [
        ((tmp_path / "nothing.npy",), "there is nothing at"),
        ((tmp_path / "nothing.jpg",), "pictures are searched through the model"),
        ((queries, "--where", "age=3"), "no column `age`"),
        ((queries, "--index", "other"), "no index `other`; there are: faiss-fp16"),
    ]:
        run("search", gallery, *arguments, fails=message)
    run("calibrate", gallery, "--fpir", "0.0001", fails="cannot tell an FPIR of 0.0001")
    run("calibrate", gallery, "--strangers", gallery, fails="200 subjects of .* are enrolled in")
    np.save(queries, np.ones((2, DIM)))
    run("search", gallery, queries, fails="has norm 5.657, not 1")
    (tmp_path / "pickle.npy").write_bytes(b"\x80\x04N.")
    run("search", gallery, tmp_path / "pickle.npy", fails="holds no array")


def test_a_gallery_that_grew_wants_another_threshold(gallery: Path, tmp_path: Path) -> None:
    run("calibrate", gallery, "--fpir", "0.05")
    names, subjects, rows = people(300, seed=1)
    Gallery.open(str(gallery)).append(names, subjects, rows, model_fingerprint="m", columns={"year": [2000] * 300})
    np.save(tmp_path / "q.npy", rows[:1])
    done = CliRunner().invoke(cli, ["gallery", "search", str(gallery), str(tmp_path / "q.npy")])
    assert "the threshold was calibrated on 600 rows, there are 900" in done.stderr
    (gallery / "threshold.json").write_text("{}")
    run("search", gallery, tmp_path / "q.npy", fails=r"threshold\.json is no threshold")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    context = standalone_context()
    block = parse_block(BackboneBlock, {"use": "mobilefacenet"}, context)
    folder = tmp_path_factory.mktemp("model")
    save_model(str(folder), context.build(block), block)
    return folder


def test_pictures_are_searched_through_the_model_and_shown(tmp_path: Path, model: Path) -> None:
    faces = SyntheticFaces(identities=4, images=2, size=112, seed=0)
    folder = tmp_path / "faces"
    for name, subject, image in zip(faces.ids, faces.subjects, faces.read(range(8)), strict=True):
        path = folder / subject / f"{name.replace('/', '_')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
    gallery = tmp_path / "g"
    run("create", gallery, "--model", model)
    run("add", gallery, folder, "--model", model, "--set", "aligned=true")
    pictures = sorted(folder.rglob("*.png"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG rubbish")
    page = tmp_path / "hits.html"
    found = told(
        "search",
        gallery,
        pictures[0],
        pictures[3],
        broken,
        "--model",
        model,
        "-k",
        "2",
        "--html",
        page,
        "--faces",
        folder,
    )
    assert [Path(answer["query"]) for answer in found] == [pictures[0], pictures[3]]
    for answer, picture in zip(found, (pictures[0], pictures[3]), strict=True):
        assert answer["hits"][0]["subject"] == picture.parent.name
        assert answer["hits"][0]["score"] == pytest.approx(1, abs=2e-3)
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 6
    assert "script" not in html.replace("script-src", "")
    whole = told("search", gallery, folder, "--model", model, "--set", "aligned=true", "-k", "1")
    assert len(whole) == 8
    run("search", gallery, broken, "--model", model, fails="none of the pictures can be read")
    run("search", gallery, tmp_path / "no.png", "--model", model, fails="there is nothing at")
    stranger, context = tmp_path / "other", standalone_context()
    block = parse_block(BackboneBlock, {"use": "mobilefacenet"}, context)
    other = context.build(block)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_model(str(stranger), other, block)
    run("search", gallery, pictures[0], "--model", stranger, fails="scores between two models mean nothing")


def test_a_page_holds_no_markup_of_strangers(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    with GalleryWriter(str(tmp_path / "g"), SCHEMA) as writer:
        writer.write([name], ["<b>bold"], people(3)[2][:1], {"year": [1]})
    np.save(tmp_path / "q.npy", people(3)[2][:1])
    run("search", tmp_path / "g", tmp_path / "q.npy", "--html", tmp_path / "hits.html")
    html = (tmp_path / "hits.html").read_text()
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;b&gt;bold" in html
