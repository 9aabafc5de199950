"""The recipes of FROM as YAML: valid, and saying what the publication says."""

from __future__ import annotations

from pathlib import Path

from occframe.config import Pipeline, load_pipeline
from occframe.plugins import PluginRegistry
from occframe.yamlfile import read_yaml

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


def test_the_adapting_recipe_begins_as_its_trunk_and_keeps_a_teacher() -> None:
    steps = {name: step.config for name, step in load("from-adapt.yaml").steps.items()}
    for name in ("decoder", "from"):
        assert steps[name].backbone.config.open_bias is not None
        assert steps[name].teacher == "trunk"
    assert steps["decoder"].parts["trunk"].rate == 0
    assert steps["from"].start == "decoder"
