"""The study of FROM: every row is a valid pipeline, and rows differ in what they are about and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import from_study
from benchmarks.bootstrap import Interval
from occframe.bench.suite import load_suite
from occframe.config import Pipeline, load_pipeline
from occframe.plugins import PluginRegistry
from occframe.yamlfile import dump_yaml, parse_yaml, read_yaml

REGISTRY = PluginRegistry.discover(environ={})


def pipeline(row: str) -> Pipeline:
    written = from_study.training(row, 1, Path("shared"), epochs=8, warmup=2)
    return load_pipeline(parse_yaml(dump_yaml(written), row), REGISTRY)


@pytest.mark.parametrize("row", from_study.ROWS)
def test_every_row_is_a_valid_pipeline_of_equal_length(row: str) -> None:
    trainings = [step.config for step in pipeline(row).steps.values() if hasattr(step.config, "epochs")]
    assert sum(step.epochs for step in trainings) == 10
    assert {step.batch_size for step in trainings} == {64}
    assert trainings[-1].occlusion.use == "choice"


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


def test_differences_are_paired_by_seed() -> None:
    def figures(value: float) -> dict[str, Any]:
        return {"mask": {"tar@far=0.0001": Interval(value, 0, 1, np.full(5, value) + np.arange(5))}}

    told = from_study.ahead({"trunk": figures(0.1), "augmented-2": figures(0.5), "from-2": figures(0.75)})
    assert told == {"from-2": {"mask": {"tar@far=0.0001": [0.25, 0.25, 0.25]}}}


@pytest.mark.shared
def test_the_images_of_the_pairs_are_cut_out(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_study, "RUNS", tmp_path)
    from_study.cut_out_pairs(shared)
    assert pq.read_metadata(tmp_path / "lfw-pairs.parquet").num_rows == 7701
