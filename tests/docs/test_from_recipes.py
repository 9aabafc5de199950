"""The recipes of FROM as YAML: valid, and saying what the publication says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import from_study
from occframe.config import Pipeline, load_pipeline
from occframe.plugins import PluginRegistry
from occframe.yamlfile import dump_yaml, parse_yaml, read_yaml

PIPELINES = Path(__file__).parents[2] / "pipelines"


def load(name: str) -> Pipeline:
    return load_pipeline(read_yaml(PIPELINES / name), PluginRegistry.discover(environ={}))


def test_the_published_recipe_has_the_published_figures() -> None:
    stage1, stage2 = (step.config for step in load("from-published.yaml").steps.values())
    assert [(step.epochs, step.optimiser.lr, step.schedule.milestones) for step in (stage1, stage2)] == [
        (40, 0.1, [15, 30]),
        (40, 0.01, [10, 25]),
    ]
    for step in (stage1, stage2):
        assert (step.optimiser.momentum, step.optimiser.weight_decay, step.batch_size) == (0.9, 5e-4, 512)
        assert (step.losses[0].config.scale, step.losses[0].config.margin) == (30, 0.35)
    assert not stage1.backbone.config.masked
    assert stage1.occlusion is None
    assert stage2.start == "trunk"
    assert stage2.backbone.config.blocks == 5
    assert stage2.losses[1].weight == 1
    assert round(stage2.occlusion_probability, 2) == 0.67
    assert stage2.flip


def test_the_adapting_recipe_is_the_one_that_the_study_measured() -> None:
    recipe = load("from-adapt.yaml").steps["from"].config.model_dump(mode="json")
    written = from_study.training("from", 1, Path("shared"), from_study.Recipe(epochs=recipe["epochs"]))
    pipeline = load_pipeline(parse_yaml(dump_yaml(written), "study"), PluginRegistry.discover(environ={}))
    studied = pipeline.steps["final"].config.model_dump(mode="json")
    different = {key for key in recipe if recipe[key] != studied[key]}
    assert different <= {"data", "name", "occlusion_probability", "threads"}
    assert recipe["occlusion_probability"] == pytest.approx(studied["occlusion_probability"], abs=1e-4)
    assert recipe["backbone"]["open_bias"] is not None  # it begins as its trunk
