"""The `engine:` block, the engine every pipeline has, plugins found again by workers, and how many actors fit."""

from __future__ import annotations

import json
import os
import pickle
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from occframe.component import BuildContext, EngineBlock
from occframe.config import load_pipeline
from occframe.engine import InProcess
from occframe.errors import ConfigError, PluginError
from occframe.plugins import PluginRegistry
from occframe.schema import pipeline_schema
from occframe.yamlfile import parse_yaml

PIPELINE = """
run_dir: runs/x
engine: {engine}
data: {{faces: synthetic}}
steps:
  - {{use: align, data: faces}}
"""
PLUGIN = """
from occframe import Config, hookimpl

class MineConfig(Config):
    pass

@hookimpl
def occframe_register_engines(register):
    register("mine", lambda config, context: None, config=MineConfig, summary="mine")
"""


@pytest.fixture(scope="module")
def registry() -> PluginRegistry:
    return PluginRegistry.discover()


def load(engine: str, registry: PluginRegistry) -> Any:
    return load_pipeline(parse_yaml(PIPELINE.format(engine=engine), "p.yaml"), registry).config


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{}", {"processes": 1}),
        ("{processes: 4}", {"processes": 4}),
        ("{use: ray, actors: 3, processes: 2}", {"use": "ray", "processes": 2, "actors": 3}),
        ("ray", {"use": "ray", "processes": 1, "actors": None, "address": "local"}),
    ],
)
def test_blocks_with_and_without_an_engine(registry, written, expected):
    config = load(written, registry)
    dumped = config.model_dump(mode="json")["engine"]
    assert dumped.items() >= expected.items()
    assert ("use" in dumped) == ("use" in expected)
    again = load_pipeline(parse_yaml(json.dumps(config.model_dump(mode="json")), "again"), registry).config
    assert again.engine == config.engine
    validator = jsonschema.Draft202012Validator(pipeline_schema(registry)["$defs"]["EngineBlock"])
    assert list(validator.iter_errors(parse_yaml(written, "p").value)) == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{procesess: 4}", "p.yaml:3:10: engine.procesess: unknown option `procesess`"),
        ("{processes: 0}", "engine.processes: Input should be greater than or equal to 1"),
        ("{use: rai}", "no engine is called `rai`"),
        ("{use: ray, actor: 4}", "did you mean `actors`?"),
        ("{use: ray, gpus_per_actor: -1}", "engine.gpus_per_actor"),
        ("3", "written `use: NAME`"),
    ],
)
def test_faults_are_told_where_they_are(registry, written, message):
    with pytest.raises(ConfigError) as caught:
        load(written, registry)
    assert message in str(caught.value)


def test_the_work_is_done_here_without_one():
    with InProcess().start([lambda: abs, lambda: float]) as crew:
        assert list(crew.map([-1, 2])) == [1, 2]
        assert crew.ask_all(-3) == [3, -3.0]


def test_plugins_are_found_again_by_another_process(tmp_path, monkeypatch):
    file = tmp_path / "my_engines.py"
    file.write_text(PLUGIN)
    monkeypatch.setenv("OCCFRAME_DISABLED_PLUGINS", "from")
    registry = PluginRegistry.discover(inline=[file], disabled=["losses"], environ=os.environ)
    block = EngineBlock.model_validate("mine", context={"registry": registry})
    # The registry first: the class of the configuration is known once it is there.
    sent = pickle.dumps((BuildContext(registry, seed=3), block))
    context, again = pickle.loads(sent)
    assert [record.label for record in context.registry.records] == [record.label for record in registry.records]
    assert [record.status for record in context.registry.records] == [record.status for record in registry.records]
    assert (context.seed, again.model_dump()) == (3, block.model_dump())
    file.write_text(PLUGIN + "# another version\n")
    with pytest.raises(PluginError, match="has other plugins than the process that sent it work: my_engines"):
        pickle.loads(sent)


def test_a_plugin_that_is_no_file_cannot_be_sent(registry):
    own = PluginRegistry.discover()
    own.register(SimpleNamespace(), name="by hand", distribution="nowhere")
    with pytest.raises(PluginError, match="cannot be found by another process"):
        pickle.dumps(own)


@pytest.mark.parametrize(
    ("options", "has", "room"),
    [
        ({}, {"CPU": 4.0}, 4),
        ({"cpus_per_actor": 3}, {"CPU": 8.0}, 2),
        ({"cpus_per_actor": 0.1}, {"CPU": 1.0}, 10),
        ({"gpus_per_actor": 0.25}, {"CPU": 16.0, "GPU": 2.0}, 8),
        ({"gpus_per_actor": 0.6}, {"CPU": 16.0, "GPU": 2.0}, 2),
        ({"gpus_per_actor": 2}, {"CPU": 16.0, "GPU": 5.0}, 2),
        ({"gpus_per_actor": 0.5}, {"CPU": 3.0, "GPU": 8.0}, 3),
        ({"gpus_per_actor": 1}, {"CPU": 3.0}, 0),
    ],
)
def test_actors_that_fit_on_a_machine(registry, options, has, room):
    pytest.importorskip("ray")
    block = EngineBlock.model_validate({"use": "ray", **options}, context={"registry": registry})
    engine = BuildContext(registry).build(block)
    assert engine._room(has) == room
    assert engine.device == ("cuda" if "gpus_per_actor" in options else "cpu")
