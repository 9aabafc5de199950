"""Planning an index, and the threshold of a gallery: arithmetic, held to what indexes really take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.component import BuildContext, MatcherBlock
from occframe.errors import OccframeError
from occframe.gallery.planning import as_bytes, parse_bytes, plan
from occframe.gallery.threshold import threshold_at
from occframe.plugins import PluginRegistry
from occframe.standalone import parse_block
from occframe_faiss.profiles import expected_recall, offers

REGISTRY = PluginRegistry.discover(only=["faiss", "torch-search"])
GIB = 2**30


def test_small_galleries_are_searched_exactly() -> None:
    made = plan(REGISTRY, 20_000, 512, memory=24 * GIB, recall=0.9, cores=2)
    assert made.chosen is not None
    assert made.chosen.block == {"use": "faiss", "profile": "fp16"}
    assert made.chosen.offer.recall == 1


@given(
    count=st.integers(1, 200_000_000),
    dim=st.integers(8, 1024),
    memory=st.integers(1, 512).map(lambda size: size * GIB // 4),
    recall=st.floats(0, 1),
    gpu=st.sampled_from([None, 24 * GIB, 80 * GIB]),
)
@settings(deadline=None)
def test_what_is_chosen_fits_and_nothing_faster_that_is_as_good_was_passed_over(
    count: int, dim: int, memory: int, recall: float, gpu: int | None
) -> None:
    made = plan(REGISTRY, count, dim, memory=memory, recall=recall, gpu=gpu, cores=4)
    assert all(item.against for item in made.others)
    if made.chosen is None:
        assert all(item.offer.memory > memory or item.offer.recall < recall for item in made.others)
        return
    offer = made.chosen.offer
    assert offer.memory <= memory
    assert offer.recall >= recall
    assert offer.gpu_memory <= (gpu or 0)
    fitting = [item.offer for item in made.others if item.against == "fits"]
    assert offer.recall == 1 or all(offer.latency_ms <= other.latency_ms + 0.01 for other in fitting)
    # It is an option that the matcher takes.
    parse_block(MatcherBlock, made.chosen.block, BuildContext(REGISTRY))


def test_compressed_where_memory_is_short_and_nothing_where_there_is_none() -> None:
    tight = plan(REGISTRY, 10_000_000, 512, memory=4 * GIB, recall=0.9, cores=2)
    assert tight.chosen is not None
    assert tight.chosen.block["profile"] == "ivf-rabitq"
    assert plan(REGISTRY, 10_000_000, 512, memory=GIB // 10, recall=0.9).chosen is None
    exact = plan(REGISTRY, 10_000_000, 512, memory=24 * GIB, recall=1, cores=2)
    assert exact.chosen is not None
    assert exact.chosen.block["profile"] == "fp16"
    on_gpu = plan(REGISTRY, 10_000_000, 512, memory=24 * GIB, recall=0.99, gpu=80 * GIB, cores=2)
    assert on_gpu.chosen is not None
    assert on_gpu.chosen.offer.gpu_memory > 10_000_000 * 1024


@pytest.mark.parametrize("profile", ["flat", "fp16", "ivf-fp16", "ivf-rabitq", "hnsw"])
def test_offers_say_what_an_index_takes(profile: str, tmp_path: Path) -> None:
    count, dim = 10_000, 32
    offer = next(item for item in offers(count, dim, 2, None) if item.options["profile"] == profile)
    block = parse_block(MatcherBlock, {"use": "faiss", **offer.options}, BuildContext(REGISTRY))
    matcher = BuildContext(REGISTRY).build(block)
    drawn = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    matcher.add([f"person-{row:06}" for row in range(count)], drawn)
    matcher.save(str(tmp_path))
    vectors = next(tmp_path.glob("vectors-*")).stat().st_size
    assert 0.85 * vectors <= offer.memory <= 1.15 * (vectors + 30 * count)


def test_looking_into_more_finds_more() -> None:
    found = [expected_recall(share) for share in (0.001, 0.01, 0.1, 0.5, 1)]
    assert found == sorted(found)
    assert found[-1] == 1
    assert expected_recall(0.125) == pytest.approx(0.811)
    assert expected_recall(0.125, 64) < expected_recall(0.125) < expected_recall(0.125, 4096) < 1


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * GIB), ("800 MB", 800_000_000), ("512", 512), ("1.5gib", 3 * GIB // 2)]
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "3 apples", "GiB"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(OccframeError, match="is no amount of memory"):
        parse_bytes(text)


def test_sizes_are_told_in_units_people_read() -> None:
    assert [as_bytes(size) for size in (2048, 5 * 2**20, 10 * GIB)] == ["2 KiB", "5.0 MiB", "10.0 GiB"]


@given(st.integers(0, 2**31), st.integers(100, 400), st.integers(0, 3), st.floats(0.05, 0.5))
@settings(deadline=None)
def test_no_more_strangers_than_allowed_reach_the_threshold(seed: int, count: int, digits: int, fpir: float) -> None:
    scores = np.random.default_rng(seed).uniform(-1, 1, count).round(digits).astype(np.float32)  # with many ties
    threshold = threshold_at(scores, fpir)
    assert (scores >= np.float32(threshold)).mean() <= fpir
    # And it is no higher than it must be: one step lower and there are too many.
    lower = np.nextafter(np.float32(threshold), np.float32(-np.inf))
    assert (scores >= lower).mean() > fpir


def test_few_searches_tell_nothing_of_a_small_rate() -> None:
    with pytest.raises(OccframeError, match=r"100 searches for strangers cannot tell an FPIR of 0\.001") as caught:
        threshold_at(np.zeros(100, np.float32), 0.001)
    assert "it takes 5,000 at least" in str(caught.value)
