"""Searching a gallery that changes: what was added is found, what was deleted is not, whatever the index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from occframe.component import BuildContext, MatcherBlock
from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema
from occframe.gallery.filters import Filter
from occframe.gallery.indexing import (
    build_index,
    extend_index,
    index_names,
    lag,
    read_record,
    verdict,
)
from occframe.gallery.searching import GallerySearcher, open_searcher, search_in_memory
from occframe.standalone import parse_block, standalone_context
from occframe.types import ImageSpec

DIM = 16
CONTEXT: BuildContext = standalone_context()
SCHEMA = GallerySchema(
    dim=DIM, model_fingerprint="m", image_spec=ImageSpec(), columns={"camera": "string", "year": "int64"}
)
PROFILES: list[dict[str, Any]] = [
    {"use": "faiss", "profile": "fp16"},
    {"use": "faiss", "profile": "flat"},
    {"use": "torch", "dtype": "float16"},
    {"use": "faiss", "profile": "ivf-fp16", "lists": 4, "probes": 4},
    {"use": "faiss", "profile": "ivf-rabitq", "lists": 4, "probes": 4, "candidates": 1000},
]


def block(written: dict[str, Any]) -> MatcherBlock:
    return parse_block(MatcherBlock, written, CONTEXT)


@pytest.fixture(params=PROFILES, ids=lambda written: f"{written['use']}-{written.get('profile', '')}")
def profile(request: pytest.FixtureRequest) -> MatcherBlock:
    return block(request.param)


def unit(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)


class Model:
    """The gallery as a dictionary, and exact search in it."""

    def __init__(self, url: str, schema: GallerySchema = SCHEMA) -> None:
        self.gallery = Gallery.create(url, schema)
        self.rows: dict[str, tuple[str, np.ndarray, int]] = {}

    def add(self, names: list[str], vectors: np.ndarray) -> None:
        years = [2000 + len(name) + int(name[1:]) % 20 for name in names]
        subjects = [f"s{int(name[1:]) // 3}" for name in names]
        columns = {"camera": ["door" if year % 2 else None for year in years], "year": years}
        self.gallery.append(names, subjects, vectors, model_fingerprint="m", columns=columns)
        self.rows |= dict(zip(names, zip(subjects, vectors, years, strict=True), strict=True))

    def delete(self, names: list[str]) -> None:
        self.gallery.delete(names)
        for name in names:
            del self.rows[name]

    def search(
        self, queries: np.ndarray, k: int, keep: Callable[[str, int], bool] = lambda subject, year: True
    ) -> list[list[str]]:
        kept = {name: vector for name, (subject, vector, year) in self.rows.items() if keep(subject, year)}
        if not kept:
            return [[""] * k for _ in queries]
        names = np.array(list(kept), object)
        scores = queries.astype(np.float64) @ np.array(list(kept.values())).astype(np.float64).T
        best = [names[np.lexsort((names, -row))][:k].tolist() for row in scores]
        return [found + [""] * (k - len(found)) for found in best]


def names(start: int, stop: int) -> list[str]:
    return [f"p{number}" for number in range(start, stop)]


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_additions_and_deletions_show_at_once_and_like_a_clean_rebuild(
    profile: MatcherBlock, tmp_path: Path, where: str
) -> None:
    url = str(tmp_path / "g") if where == "disk" else f"memory://{tmp_path.name}/g"
    model, vectors, queries = Model(url), unit(700), unit(20, seed=1)
    model.add(names(0, 600), vectors[:600])
    model.delete(names(0, 3))
    build_index(model.gallery, profile, CONTEXT)
    searcher = open_searcher(url, CONTEXT)

    def check() -> GallerySearcher:
        for k in (1, 7):
            expected = model.search(queries, k)
            assert searcher.search(queries, k).ids.tolist() == expected
            assert searcher.search(queries[:1], k).ids.tolist() == expected[:1]
        clean = search_in_memory(url, profile, CONTEXT)
        left, right = searcher.search(queries, 7), clean.search(queries, 7)
        assert left.ids.tolist() == right.ids.tolist()
        np.testing.assert_allclose(left.scores, right.scores, atol=1e-6)
        return clean

    check()
    model.delete(["p7", *names(100, 106)])
    model.add(names(600, 606), vectors[600:606])
    model.add(["p7"], vectors[650:651])  # the same id with another face
    clean = check()
    assert (searcher.beside, searcher.deleted) == (7, 7)
    assert (clean.beside, clean.deleted) == (0, 0)
    assert searcher.search(vectors[650:651], 1).ids.tolist() == [["p7"]]
    model.delete(["p7", "p601"])
    check()
    assert searcher.search(vectors[650:651], 1).ids.tolist() != [["p7"]]
    name = index_names(url)[0]
    assert verdict(model.gallery, read_record(url, name), 0.1) == "keep"
    assert verdict(model.gallery, read_record(url, name)) == "extend"
    extend_index(model.gallery, name, CONTEXT)
    behind = lag(model.gallery, read_record(url, name))
    assert behind is not None
    assert (behind.added, behind.deleted, behind.covered) == (0, 0, len(model.rows))
    searcher = open_searcher(url, CONTEXT)
    check()
    assert (searcher.beside, searcher.deleted) == (0, 0)
    model.delete(names(110, 112))
    check()


def test_deleting_what_a_query_is_nearest_to_is_searched_past(profile: MatcherBlock, tmp_path: Path) -> None:
    model, near = Model(str(tmp_path)), unit(1)
    twins = np.repeat(near, 300, axis=0)
    model.add(names(0, 300), twins)
    model.add(names(300, 400), unit(100, seed=2))
    build_index(model.gallery, profile, CONTEXT)
    searcher = open_searcher(str(tmp_path), CONTEXT)
    model.delete(names(0, 300))
    assert searcher.search(near, 5).ids.tolist() == model.search(near, 5)
    model.add(names(500, 520), twins[:20])
    assert searcher.search(near, 30).ids.tolist() == model.search(near, 30)
    assert searcher.search(near, 20).ids[0].tolist() == sorted(names(500, 520))


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "index", "extend", "compact"]), st.integers(0, 10_000)), max_size=12
)


@given(actions=ACTIONS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_is_searched_like_what_is_there(tmp_path_factory: pytest.TempPathFactory, actions: Any) -> None:
    url = str(tmp_path_factory.mktemp("history"))
    model, queries, chosen = Model(url), unit(3, seed=9), block(PROFILES[0])
    model.add(names(0, 40), unit(40))
    build_index(model.gallery, chosen, CONTEXT)
    searcher = open_searcher(url, CONTEXT)
    for action, number in actions:
        free = [name for name in names(0, 60) if name not in model.rows]
        rng = np.random.default_rng(number)
        if action == "add" and free:
            some = list(rng.choice(free, min(len(free), 5), replace=False))
            model.add(some, unit(len(some), seed=number))
        elif action == "delete" and model.rows:
            model.delete(list(rng.choice(sorted(model.rows), min(len(model.rows), 4), replace=False)))
        elif action == "extend" and index_names(url):
            extend_index(model.gallery, "faiss-fp16", CONTEXT)
        elif action in ("index", "compact"):
            if action == "compact":
                model.gallery.compact()
            if action == "index" or not index_names(url):
                build_index(model.gallery, chosen, CONTEXT)
            searcher = open_searcher(url, CONTEXT)
        assert searcher.search(queries, 6).ids.tolist() == model.search(queries, 6)


@pytest.mark.parametrize("few", [0, 10_000])
def test_filters_are_exact_on_either_path(
    profile: MatcherBlock, tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occframe.gallery.searching._FEW_ROWS", few)
    monkeypatch.setattr("occframe.gallery.searching._FEW_SHARE", 0)
    model, queries = Model(str(tmp_path)), unit(10, seed=1)
    model.add(names(0, 300), unit(300))
    build_index(model.gallery, profile, CONTEXT)
    model.add(names(300, 320), unit(20, seed=3))
    model.delete(names(40, 44))
    searcher = open_searcher(str(tmp_path), CONTEXT)

    def only(**chosen: Any) -> Filter:
        made = Filter.of(SCHEMA, **chosen)
        assert made is not None
        return made

    for chosen, keep in [
        (only(subjects=["s1", "s2", "s101", "nobody"]), lambda subject, year: subject in ("s1", "s2", "s101")),
        (only(not_subjects=["s1", "s101"]), lambda subject, year: subject not in ("s1", "s101")),
        (only(where=["year>=2012", "camera = door"]), lambda subject, year: year >= 2012 and year % 2),
        (only(where=["camera!=door"]), lambda subject, year: False),
        (only(where=["year<2010"], not_subjects=["s3"]), lambda subject, year: year < 2010 and subject != "s3"),
        (only(subjects=["nobody"]), lambda subject, year: False),
    ]:
        for k in (1, 8, 200):
            assert searcher.search(queries, k, chosen).ids.tolist() == model.search(queries, k, keep), (chosen, k)


def test_conditions_that_make_no_sense() -> None:
    for text, message in [
        ("year", "`year` is no condition"),
        ("yaer=3", "no column `yaer`"),
        ("year>soon", "`year` holds int64, not `soon`"),
    ]:
        with pytest.raises(OccframeError, match=message):
            Filter.of(SCHEMA, where=[text])
    assert Filter.of(SCHEMA) is None


def test_more_hits_than_rows_no_rows_and_bad_queries(profile: MatcherBlock, tmp_path: Path) -> None:
    model = Model(str(tmp_path))
    build_index(model.gallery, profile, CONTEXT)
    searcher = open_searcher(str(tmp_path), CONTEXT)
    assert searcher.search(unit(2), 3).ids.tolist() == [["", "", ""]] * 2
    model.add(names(0, 5), unit(5))
    assert searcher.search(unit(2), 9).ids.tolist() == model.search(unit(2), 9)
    assert np.isneginf(searcher.search(unit(2), 9).scores[:, 5:]).all()
    model.delete(names(0, 5))
    assert searcher.search(unit(2), 3).ids.tolist() == [["", "", ""]] * 2
    assert searcher.search(unit(0), 3).ids.shape == (0, 3)
    with pytest.raises(OccframeError, match="k is 0"):
        searcher.search(unit(1), 0)
    with pytest.raises(OccframeError, match=r"queries have the shape \[1, 3\]"):
        searcher.search(np.ones((1, 3), np.float32), 1)


def test_an_index_that_does_not_fit_is_recognised(tmp_path: Path) -> None:
    url, chosen = str(tmp_path / "g"), block(PROFILES[0])
    model = Model(url)
    model.add(names(0, 50), unit(50))
    with pytest.raises(OccframeError, match="has no indexes") as caught:
        open_searcher(url, CONTEXT)
    assert "occframe gallery index" in str(caught.value)
    build_index(model.gallery, chosen, CONTEXT)
    searcher = open_searcher(url, CONTEXT)
    header = tmp_path / "g" / "index" / "faiss-fp16" / "index.json"
    good = header.read_text()

    def edited(**changes: Any) -> None:
        raw = json.loads(good)
        raw["details"] |= changes
        header.write_text(json.dumps(raw))

    edited(library="faiss 1.2.3")
    with pytest.raises(OccframeError, match=r"was written by faiss 1\.2\.3, this is faiss"):
        open_searcher(url, CONTEXT)
    snapshot = json.loads(good)["details"]["snapshot"]
    snapshot["rows_schema"]["model_fingerprint"] = "another"
    edited(snapshot=snapshot)
    with pytest.raises(OccframeError, match="built from other contents"):
        open_searcher(url, CONTEXT)
    header.write_text(good.replace('"build-', '"../build-'))
    with pytest.raises(OccframeError, match=r"index\.json is no record of an index"):
        open_searcher(url, CONTEXT)
    header.write_text(good)
    vectors = next(tmp_path.glob("g/index/*/build-*/vectors-*"))
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-100])
    with pytest.raises(OccframeError, match="is damaged"):
        open_searcher(url, CONTEXT)
    vectors.write_bytes(whole)
    build_index(model.gallery, chosen, CONTEXT, name="second")
    with pytest.raises(OccframeError, match="has 2 indexes: faiss-fp16, second"):
        open_searcher(url, CONTEXT)
    with pytest.raises(OccframeError, match="no index `third`; there are: faiss-fp16, second"):
        open_searcher(url, CONTEXT, index="third")
    model.delete(["p3"])
    model.gallery.compact()
    assert index_names(url) == []
    with pytest.raises(OccframeError, match="built from other contents"):
        searcher.search(unit(1), 1)


def test_compacting_leaves_nothing_of_the_deleted_in_any_index(profile: MatcherBlock, tmp_path: Path) -> None:
    model, vectors = Model(str(tmp_path)), unit(60)
    model.add(names(0, 60), vectors)
    build_index(model.gallery, profile, CONTEXT)
    build_index(model.gallery, block(PROFILES[0]), CONTEXT, name="other")
    model.delete(["p7"])
    extend_index(model.gallery, "other", CONTEXT)
    model.gallery.compact()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            for dtype in (np.float16, np.float32):
                assert vectors[7].astype(dtype).tobytes()[:16] not in path.read_bytes(), path
    build_index(model.gallery, profile, CONTEXT)
    queries = unit(5, seed=1)
    assert open_searcher(str(tmp_path), CONTEXT).search(queries, 4).ids.tolist() == model.search(queries, 4)


def test_a_build_that_is_compacted_under_is_not_kept(tmp_path: Path) -> None:
    model = Model(str(tmp_path))
    model.add(names(0, 60), unit(60))
    opened = Gallery.open(str(tmp_path))
    rows = 0

    def meanwhile(count: int) -> None:
        nonlocal rows
        rows += count
        model.delete(["p7"])
        model.gallery.compact()

    with pytest.raises(OccframeError, match="was compacted while its index"):
        build_index(opened, block(PROFILES[0]), CONTEXT, advance=meanwhile)
    assert rows == 60
    assert index_names(str(tmp_path)) == []


def test_training_sees_all_of_the_gallery_and_a_seed_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from occframe.component import BuildContext
    from occframe_faiss.inverted import Ivf

    model = Model(str(tmp_path))
    for start in range(0, 3000, 1000):
        model.add(names(start, start + 1000), unit(1000, seed=start))
    model.delete(names(500, 600))
    seen: list[np.ndarray] = []
    train = Ivf.train

    def recorded(self: Ivf, sample: np.ndarray, count: int, seed: int) -> None:
        seen.append(sample)
        train(self, sample, count, seed)

    monkeypatch.setattr(Ivf, "train", recorded)
    chosen = block({"use": "faiss", "profile": "ivf-fp16", "lists": 8})
    places = {row.tobytes(): number for number, row in enumerate(Gallery.open(str(tmp_path)).read_vectors())}
    for seed in (1, 1, 2):
        build_index(model.gallery, chosen, BuildContext(CONTEXT.registry, seed=seed))
    assert seen[0].tolist() == seen[1].tolist() != seen[2].tolist()
    drawn = [places[row.tobytes()] for row in seen[0]]
    assert len(set(drawn)) == 512
    assert np.histogram(drawn, 6, (0, 2900))[0].min() > 50


def test_hnsw_finds_nearly_all_and_forgets_at_once(tmp_path: Path) -> None:
    model, queries = Model(str(tmp_path)), unit(40, seed=1)
    model.add(names(0, 1000), unit(1000))
    build_index(model.gallery, block({"use": "faiss", "profile": "hnsw"}), CONTEXT)
    model.delete(names(0, 10))
    model.add(names(2000, 2010), unit(10, seed=4))
    searcher = open_searcher(str(tmp_path), CONTEXT)

    def recall() -> float:
        found, expected = searcher.search(queries, 10).ids.tolist(), model.search(queries, 10)
        return sum(len(set(a) & set(b)) for a, b in zip(found, expected, strict=True)) / 400

    assert recall() > 0.97
    extend_index(model.gallery, "faiss-hnsw", CONTEXT)
    searcher = open_searcher(str(tmp_path), CONTEXT)
    assert (searcher.beside, searcher.deleted) == (0, 0)
    assert recall() > 0.97
