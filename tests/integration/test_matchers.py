"""One contract for every matcher, checked against a brute-force oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from occframe.component import BuildContext, MatcherBlock
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe.testing.samples import brute_force, unit_vectors
from occframe.types import Matcher

BLOCKS: list[Any] = [
    {"use": "faiss", "profile": "flat"},
    {"use": "faiss", "profile": "fp16"},
    # Looking into all lists, they are exact too.
    {"use": "faiss", "profile": "ivf-fp16", "lists": 4, "probes": 4},
    {"use": "torch", "dtype": "float32"},
    {"use": "torch", "dtype": "float16"},
]
DIM = 16

Build = Callable[[], Matcher]


def device_parameters() -> list[Any]:
    return [pytest.param("cpu"), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module", params=device_parameters())
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    return str(request.param)


@pytest.fixture(scope="module", params=BLOCKS, ids=lambda block: "-".join(map(str, block.values())))
def build(request: pytest.FixtureRequest, device: str) -> Build:
    registry = PluginRegistry.discover()
    block = MatcherBlock.model_validate(request.param, context={"registry": registry})
    return lambda: BuildContext(registry, device=device).build(block)


def ids_of(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_it_finds_what_brute_force_finds(build: Build) -> None:
    vectors, queries = unit_vectors(500), unit_vectors(40, seed=1)
    matcher = build()
    matcher.add(ids_of(200), vectors[:200])
    matcher.add([f"q{number}" for number in range(300)], vectors[200:].astype(np.float16))
    expected = brute_force(dict(zip([*ids_of(200), *ids_of(300, "q")], vectors, strict=True)), queries, 10)
    found = matcher.search(queries, 10)
    assert len(matcher) == 500
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-6)
    assert found.ids.tolist() == expected.ids.tolist()
    assert matcher.search(queries.astype(np.float16), 10).ids.tolist() == expected.ids.tolist()


def test_one_query_is_answered_as_in_a_batch(build: Build) -> None:
    queries = unit_vectors(20, seed=3)
    matcher = build()
    matcher.add(ids_of(300), unit_vectors(300))
    whole = matcher.search(queries, 5)
    for row in range(20):
        alone = matcher.search(queries[row : row + 1], 5)
        assert alone.ids[0].tolist() == whole.ids[row].tolist()
        np.testing.assert_allclose(alone.scores[0], whole.scores[row], atol=2e-6)


# Coordinates of ±1/4 in 16 dimensions: norm 1, exact sums in float16, and plenty of equal scores.
signs = st.lists(st.sampled_from([-0.25, 0.25]), min_size=DIM, max_size=DIM)


@given(
    rows=st.lists(signs, min_size=1, max_size=30),
    copies=st.lists(st.integers(0, 29), max_size=10),
    queries=st.lists(signs, min_size=1, max_size=4),
    k=st.integers(1, 50),
    removed=st.sets(st.integers(0, 39), max_size=40),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ties_removals_and_large_k(
    build: Build, rows: list[Any], copies: list[int], queries: list[Any], k: int, removed: set[int]
) -> None:
    vectors = np.array(rows + [rows[at % len(rows)] for at in copies], np.float32)
    # Ids that do not sort as the rows do.
    ids = [f"{(7 * row) % 41:02}" for row in range(len(vectors))]
    matcher = build()
    matcher.add(ids, vectors)
    gone = [ids[row] for row in sorted(removed) if row < len(ids)]
    matcher.remove(gone)
    gallery = {name: vector for name, vector in zip(ids, vectors, strict=True) if name not in gone}
    found = matcher.search(np.array(queries, np.float32), k)
    expected = brute_force(gallery, np.array(queries, np.float32), k)
    np.testing.assert_array_equal(found.scores, expected.scores)
    for row in range(len(queries)):
        # Which of several equal scores makes the last place is the index's choice; their order is not.
        last = expected.scores[row].min()
        sure = expected.scores[row] > last if len(gallery) > k else np.ones(k, bool)
        assert found.ids[row][sure].tolist() == expected.ids[row][sure].tolist()
        tied = found.ids[row][~sure].tolist()
        assert tied == sorted(tied)
        for name in tied:
            assert gallery[name] @ np.array(queries[row], np.float32) == last


def test_more_removals_than_are_searched_past(build: Build) -> None:
    vectors = unit_vectors(1000)
    matcher = build()
    matcher.add(ids_of(1000), vectors)
    matcher.remove(ids_of(100))
    matcher.remove([f"p{number}" for number in range(100, 700)])
    matcher.add(["p5"], vectors[5:6])
    gallery = {f"p{row}": vectors[row] for row in [5, *range(700, 1000)]}
    queries = unit_vectors(10, seed=2)
    assert matcher.search(queries, 7).ids.tolist() == brute_force(gallery, queries, 7).ids.tolist()
    assert len(matcher) == 301


def test_an_empty_index_answers_nothing(build: Build) -> None:
    matcher = build()
    found = matcher.search(unit_vectors(3), 2)
    assert found.ids.tolist() == [["", ""]] * 3
    assert np.isneginf(found.scores).all()
    matcher.add([], np.empty((0, DIM), np.float32))
    matcher.add(["a"], unit_vectors(1))
    matcher.remove(["a"])
    assert matcher.search(unit_vectors(3), 2).ids.tolist() == [["", ""]] * 3
    assert matcher.search(np.empty((0, DIM), np.float32), 4).ids.shape == (0, 4)


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_saved_index_opens_as_it_was(build: Build, where: str, tmp_path: Any) -> None:
    url = str(tmp_path / "index") if where == "disk" else f"memory://{tmp_path.name}/index"
    vectors, queries = unit_vectors(400), unit_vectors(10, seed=1)
    matcher = build()
    matcher.add(ids_of(400), vectors)
    matcher.remove(["p1", "p17"])
    expected = matcher.search(queries, 6)
    matcher.save(url)
    opened = build()
    opened.add(["something else"], unit_vectors(1))
    opened.load(url)
    found = opened.search(queries, 6)
    assert len(opened) == 398
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)
    opened.add(["p1"], vectors[1:2])
    assert opened.search(vectors[1:2], 1).ids.tolist() == [["p1"]]
    opened.save(url)
    again = build()
    again.load(url)
    assert len(again) == 399


def test_an_empty_index_is_saved_too(build: Build, tmp_path: Any) -> None:
    build().save(str(tmp_path))
    matcher = build()
    matcher.load(str(tmp_path))
    assert len(matcher) == 0
    matcher.add(["a"], unit_vectors(1))
    assert matcher.search(unit_vectors(1), 1).ids.tolist() == [["a"]]


def test_what_was_removed_is_not_in_the_saved_files(build: Build, tmp_path: Any) -> None:
    vectors = unit_vectors(50)
    matcher = build()
    matcher.add([f"person-{row}-of-fifty" for row in range(50)], vectors)
    matcher.remove(["person-7-of-fifty"])
    matcher.save(str(tmp_path))
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for dtype in (np.float16, np.float32):
        assert vectors[7].astype(dtype).tobytes()[:16] not in files
    ids_file = next(tmp_path.glob("ids-*.parquet"))
    assert "person-7-of-fifty" not in pq.read_table(ids_file).column("id").to_pylist()


def test_bad_input_is_refused_and_changes_nothing(build: Build) -> None:
    matcher = build()
    vectors = unit_vectors(4)
    matcher.add(["a", "b"], vectors[:2])
    broken = vectors[2:].copy()
    broken[1, 3] = np.nan
    too_wide = unit_vectors(2, dim=DIM + 1)
    for ids, rows, message in [
        (["b", "c"], vectors[2:], "the id `b` is there already"),
        (["c", "c"], vectors[2:], "the id `c` occurs twice"),
        (["c", ""], vectors[2:], "an id is empty"),
        (["c"], vectors[2:], "1 ids for 2 vectors"),
        (["c", "d"], broken, "vectors to add: row 1 is not finite"),
        (["c", "d"], broken.astype(np.float16), "vectors to add: row 1 is not finite"),
        (["c", "d"], too_wide, r"vectors to add have the shape \[2, 17\], not \[n, 16\]"),
        (["c", "d"], vectors[2:].astype(np.float64), "vectors to add are float64"),
    ]:
        with pytest.raises(OccframeError, match=message):
            matcher.add(ids, rows)
    with pytest.raises(OccframeError, match=r"no id `x` \(1 of 2 are unknown\)"):
        matcher.remove(["a", "x"])
    with pytest.raises(OccframeError, match="k is 0"):
        matcher.search(vectors, 0)
    with pytest.raises(OccframeError, match=r"queries have the shape \[2, 17\]"):
        matcher.search(too_wide, 1)
    assert len(matcher) == 2
    assert sorted(matcher.search(vectors[:1], 5).ids[0].tolist()) == ["", "", "", "a", "b"]


def test_a_damaged_index_is_refused_by_name(build: Build, tmp_path: Any) -> None:
    matcher = build()
    matcher.add(ids_of(50), unit_vectors(50))
    url = str(tmp_path / "index")
    with pytest.raises(OccframeError, match="there is no index at"):
        matcher.load(url)
    matcher.save(url)
    header = tmp_path / "index" / "index.json"
    vectors = next((tmp_path / "index").glob("vectors-*"))
    good = vectors.read_bytes()
    vectors.write_bytes(good[: len(good) // 2])
    with pytest.raises(OccframeError, match="is damaged: its header says") as caught:
        matcher.load(url)
    assert "run the `index` step again" in str(caught.value)
    header.write_text(header.read_text().replace(str(len(good)), str(len(good) // 2)))
    with pytest.raises(OccframeError, match=r"index .*vectors-.*cannot be read"):
        matcher.load(url)
    vectors.unlink()
    with pytest.raises(OccframeError, match=r"is incomplete: .*No such file"):
        matcher.load(url)
    stranger = json.loads(header.read_text()) | {"vectors": "../../secret.bin"}
    header.write_text(json.dumps(stranger))
    with pytest.raises(OccframeError, match=r"index\.json is no header of an index"):
        matcher.load(url)
    header.write_text("{")
    with pytest.raises(OccframeError, match=r"index\.json is no header of an index"):
        matcher.load(url)
    assert len(matcher) == 50
    matcher.save(url)
    build().load(url)


def test_an_index_of_another_matcher_or_profile_is_refused(tmp_path: Any) -> None:
    registry = PluginRegistry.discover()

    def made(block: Any) -> Matcher:
        validated = MatcherBlock.model_validate(block, context={"registry": registry})
        return BuildContext(registry).build(validated)  # type: ignore[no-any-return]

    made("torch").save(str(tmp_path / "torch"))
    made("faiss").save(str(tmp_path / "faiss"))
    with pytest.raises(OccframeError, match="was built by matcher `torch`, not `faiss`"):
        made("faiss").load(str(tmp_path / "torch"))
    with pytest.raises(OccframeError, match="has the profile flat, this matcher fp16"):
        made({"use": "faiss", "profile": "fp16"}).load(str(tmp_path / "faiss"))


def test_searching_spans_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    import occframe_torch.chunks
    import occframe_torch.matcher

    monkeypatch.setattr(occframe_torch.chunks, "ROWS", 64)
    monkeypatch.setattr(occframe_torch.matcher, "_QUERIES", 3)
    registry = PluginRegistry.discover()
    matcher = BuildContext(registry).build(MatcherBlock.model_validate("torch", context={"registry": registry}))
    vectors, queries = unit_vectors(1000), unit_vectors(10, seed=1)
    for start in range(0, 1000, 130):
        matcher.add(ids_of(1000)[start : start + 130], vectors[start : start + 130])
    matcher.remove(ids_of(500)[::2] + ids_of(1000)[600:700])
    kept = {f"p{row}": vectors[row] for row in range(1000) if not (row < 500 and row % 2 == 0) and not 600 <= row < 700}
    for k in (1, 70, 700):
        assert matcher.search(queries, k).ids.tolist() == brute_force(kept, queries, k).ids.tolist()
