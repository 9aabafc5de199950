"""The study of FROM: every row is a valid pipeline, and rows differ in what they are about and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import from_study
from occframe.bench.suite import load_suite
from occframe.config import Pipeline, load_pipeline
from occframe.plugins import PluginRegistry
from occframe.types import Interval, ProtocolResult
from occframe.yamlfile import dump_yaml, parse_yaml, read_yaml

REGISTRY = PluginRegistry.discover(environ={})


def pipeline(row: str) -> Pipeline:
    written = from_study.training(row, 1, Path("shared"), from_study.Recipe(epochs=8))
    return load_pipeline(parse_yaml(dump_yaml(written), row), REGISTRY)


@pytest.mark.parametrize("row", from_study.ROWS)
def test_every_row_is_a_valid_pipeline_of_equal_length(row: str) -> None:
    training = pipeline(row).steps["final"].config
    assert (training.epochs, training.batch_size, training.occlusion.use) == (8, 64, "choice")
    still = {name.removeprefix("trunk.") for name, part in training.parts.items() if part.rate == 0}
    assert still == set(from_study.STILL)


def test_only_from_has_a_pattern_term() -> None:
    def losses(row: str) -> list[str]:
        return [block.use for block in pipeline(row).steps["final"].config.losses]

    assert losses("augmented") == ["cosface", "distil-clean"]
    assert losses("from") == ["cosface", "distil-clean", "occlusion-pattern", "mask-coverage"]
    assert "occlusion-box" in losses("from-regression")


def test_no_system_trains_on_the_unseen_kinds() -> None:
    suite = load_suite(read_yaml(from_study.HERE / "suites" / "from.yaml"), REGISTRY)
    unseen = {item.occlusion.use for item in suite.conditions["unseen"].config.of}
    trained = {
        item["occlusion"] if isinstance(item["occlusion"], str) else item["occlusion"]["use"]
        for item in from_study.OCCLUSION["of"]
    }
    assert not unseen & trained
    assert {"rectangles", "mask", "eyes"} < set(suite.conditions)


def test_every_row_has_a_seed_before_any_has_two() -> None:
    order = from_study.systems_of(["augmented", "from", "from-2d"], 2)
    assert order == [("augmented", 1), ("from", 1), ("from-2d", 1), ("augmented", 2), ("from", 2)]


def test_differences_are_over_rounds_that_drew_the_same_people() -> None:
    def figures(value: float, drawn: str = "all-0") -> dict[Any, ProtocolResult]:
        rounds = np.float32(value) + np.arange(40, dtype=np.float32)
        told = {"tar@far=1e-4": Interval(0, 1, rounds, 0.95, drawn), "eer": Interval(0, 1, rounds, 0.95, drawn)}
        return {("all", "mask"): ProtocolResult({"tar@far=1e-4": value, "eer": value}, intervals=told)}

    assert from_study.differences(figures(0.5), figures(0.75)) == {"all": {"mask": {"tar@far=1e-4": [0.25] * 3}}}
    assert from_study.differences(figures(0.5), figures(0.75, "others-0")) == {"all": {"mask": {}}}


def result(value: float, rounds: np.ndarray) -> ProtocolResult:
    return ProtocolResult({"tar@far=1e-4": value}, intervals={"tar@far=1e-4": Interval(0, 1, rounds, 0.95, "all-0")})


def test_a_mean_is_taken_round_by_round() -> None:
    rounds = np.random.default_rng(0).random((3, 50), dtype=np.float32)
    told = from_study.mean_of([result(float(at), values) for at, values in enumerate(rounds)])
    assert told.metrics == {"tar@far=1e-4": 1.0}
    interval = told.intervals["tar@far=1e-4"]
    np.testing.assert_allclose(interval.rounds, rounds.mean(0), rtol=1e-6)
    assert interval.low == pytest.approx(np.quantile(rounds.mean(0), 0.025), rel=1e-5)
    assert interval.drawn == "all-0"


def test_rows_are_compared_by_seed_and_over_all_seeds() -> None:
    values = {"trunk": 0.1, "augmented-1": 0.5, "from-1": 0.75, "augmented-2": 0.5, "from-2": 0.5, "from-k4-1": 0.25}
    found = {name: {("all", "mask"): result(value, np.full(40, value, np.float32))} for name, value in values.items()}
    told = from_study.ahead(found)
    figures = {name: by["all"]["mask"]["tar@far=1e-4"] for name, by in told.items()}
    expected = {"from-1": 0.25, "from-2": 0.0, "from-k4-1": -0.25, "from, mean of 2 seeds": 0.125}
    assert figures == {name: [value] * 3 for name, value in expected.items()}


@pytest.mark.shared
def test_the_images_of_the_pairs_are_cut_out(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_study, "RUNS", tmp_path)
    from_study.cut_out_pairs(shared)
    assert pq.read_metadata(tmp_path / "lfw-pairs.parquet").num_rows == 7701
