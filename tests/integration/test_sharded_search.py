"""An index in shares finds what one of all rows does, bit for bit, ties and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occframe.engine import InProcess
from occframe.gallery import Gallery, GallerySchema, GalleryWriter, read_hits
from occframe.plugins import PluginRegistry
from occframe.step import Artefact
from occframe.steps.index import IndexConfig, IndexStep
from occframe.steps.search import SearchConfig, SearchStep
from occframe.types import ImageSpec
from tests.fakes import FakeStepContext

REGISTRY = PluginRegistry.discover()
DIM, ROWS = 24, 700
EXACT: list[dict[str, Any]] = [
    {"use": "torch"},
    {"use": "torch", "dtype": "float16"},
    {"use": "faiss", "profile": "flat"},
    {"use": "faiss", "profile": "fp16"},
]
LEARNT: list[dict[str, Any]] = [
    {"use": "faiss", "profile": "ivf-fp16", "lists": 4, "probes": 4},
    {"use": "faiss", "profile": "ivf-rabitq", "lists": 4, "probes": 4},
    {"use": "faiss", "profile": "hnsw"},
]


class Several(InProcess):
    """Workers in this process, but as many as asked for."""

    def __init__(self, workers: int) -> None:
        self.workers = workers


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def vectors_of(rows: int, seed: int) -> np.ndarray:
    """Clustered, and one in five a copy of another one, as pictures of a photograph are: equal scores abound."""
    draw = np.random.default_rng(seed)
    found = unit(np.repeat(draw.normal(size=(rows // 7, DIM)), 7, 0) + 0.3 * draw.normal(size=(rows // 7 * 7, DIM)))
    copied = draw.choice(len(found), len(found) // 5, replace=False)
    found[copied] = found[draw.choice(len(found), len(copied))]
    return found


def write_gallery(url: Path, vectors: np.ndarray, prefix: str) -> Artefact:
    """In three parts."""
    schema = GallerySchema(dim=DIM, model_fingerprint="m", image_spec=ImageSpec())
    names = [f"{prefix}{number:04}" for number in np.random.default_rng(5).permutation(len(vectors))]
    for start in range(0, len(vectors), 1 + len(vectors) // 3):
        part = slice(start, start + 1 + len(vectors) // 3)
        with GalleryWriter(str(url), schema) as writer:
            writer.write(names[part], names[part], vectors[part])
    return Artefact(prefix, "embeddings", str(url), {})


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """Some of them enrolled themselves."""
    vectors = np.concatenate([vectors_of(70, 2), vectors_of(ROWS, 1)[:30]])
    return write_gallery(tmp_path_factory.mktemp("probes"), vectors, "probe")


def index(url: Path, gallery: Artefact, matcher: dict[str, Any], engine: Any) -> Artefact:
    options = {"gallery": "faces", "matcher": matcher}
    context = FakeStepContext(url, options, IndexConfig, artefacts={"faces": gallery}, registry=REGISTRY, engine=engine)
    outcome = IndexStep().run(context)
    assert context.bars[0].done == Gallery.open(gallery.url).count
    return Artefact("index", "index", str(url), outcome.outputs[""])


def search(url: Path, made: Artefact, probes: Artefact, k: int, engine: Any) -> Any:
    options = {"index": "index", "probes": {"all": "probes"}, "k": k}
    artefacts = {"index": made, "probes": probes}
    SearchStep().run(FakeStepContext(url, options, SearchConfig, artefacts=artefacts, registry=REGISTRY, engine=engine))
    return read_hits(Artefact("hits", "hits", str(url), {"file": "hits-all.parquet"})).hits


def assert_equal(left: Any, right: Any) -> None:
    assert np.array_equal(left.scores.view(np.uint32), right.scores.view(np.uint32))
    assert left.ids.tolist() == right.ids.tolist()


@pytest.mark.parametrize("matcher", EXACT, ids=str)
def test_shares_give_what_the_whole_gives(tmp_path, probes, matcher):
    faces = write_gallery(tmp_path / "faces", vectors_of(ROWS, 1), "face")
    gallery = Gallery.open(faces.url)
    gallery.delete(gallery.read_ids().to_pylist()[100:130])
    whole = index(tmp_path / "whole", faces, matcher, InProcess())
    shared = index(tmp_path / "shared", faces, matcher, Several(3))
    assert shared.meta["shares"] == [0, 223, 446, 670]
    assert sorted(path.name for path in (tmp_path / "shared" / "shares").iterdir()) == ["0000", "0001", "0002"]
    # What became of the gallery since is seen: rows gone of every share, and new ones, copies of old ones too.
    gallery.delete(gallery.read_ids().to_pylist()[::9])
    more = np.concatenate([vectors_of(35, 3), vectors_of(ROWS, 1)[:20]])
    gallery.append([f"new{number}" for number in range(55)], ["?"] * 55, more, model_fingerprint="m")
    for k in (1, 4, 700):
        expected = search(tmp_path / f"a{k}", whole, probes, k, InProcess())
        for workers in (0, 1, 2, 5):
            assert_equal(search(tmp_path / f"b{k}{workers}", shared, probes, k, Several(workers)), expected)


@pytest.mark.parametrize("matcher", LEARNT, ids=str)
def test_shares_of_a_trained_index_find_what_is_there(tmp_path, probes, matcher):
    vectors = vectors_of(ROWS, 1)
    faces = write_gallery(tmp_path / "faces", vectors, "face")
    made = index(tmp_path / "index", faces, matcher, Several(2))
    hits = search(tmp_path / "hits", made, probes, 5, Several(2))
    asked = Gallery.open(probes.url).read_vectors().astype(np.float32)
    best = np.sort(asked @ Gallery.open(faces.url).read_vectors().astype(np.float32).T, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(hits.scores, best, atol=2e-3)


def test_equal_scores_at_the_last_place_go_by_id(tmp_path, probes):
    faces = write_gallery(tmp_path / "faces", np.repeat(vectors_of(7, 1)[:1], 60, 0), "face")
    for name, engine in (("whole", InProcess()), ("shared", Several(4))):
        made = index(tmp_path / name, faces, {"use": "torch"}, engine)
        found = search(tmp_path / f"{name}-hits", made, probes, 3, engine).ids.tolist()
        assert found == [["face0000", "face0001", "face0002"]] * len(found)


def test_an_index_moved_without_its_gallery(tmp_path, probes):
    faces = write_gallery(tmp_path / "faces", vectors_of(ROWS, 1), "face")
    made = index(tmp_path / "index", faces, {"use": "faiss"}, Several(3))
    before = search(tmp_path / "before", made, probes, 5, Several(3))
    (tmp_path / "faces").rename(tmp_path / "elsewhere")
    after = search(tmp_path / "after", made, probes, 5, Several(3))
    assert np.array_equal(before.scores, after.scores)


def test_no_faces_and_fewer_than_workers(tmp_path, probes):
    faces = write_gallery(tmp_path / "faces", vectors_of(7, 1)[:2], "face")
    made = index(tmp_path / "index", faces, {"use": "faiss"}, Several(5))
    assert made.meta["shares"] == [0, 1, 2]
    assert (search(tmp_path / "hits", made, probes, 3, Several(5)).ids != "").sum(1).tolist() == [2] * 100
    gallery = Gallery.open(faces.url)
    gallery.delete(gallery.read_ids().to_pylist())
    made = index(tmp_path / "none", faces, {"use": "torch"}, Several(5))
    assert (search(tmp_path / "no-hits", made, probes, 3, Several(5)).ids == "").all()
