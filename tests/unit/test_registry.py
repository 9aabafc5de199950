from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from importlib.resources import files
from urllib.parse import urlparse

import jsonschema
import pytest

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import PluginError
from occframe.plugins import PluginRegistry
from occframe.types import ImageSpec
from occframe.weights import locate_weights
from occframe_registry import PluginEntry, ProtocolEntry, WeightsEntry, plugins, protocols, weights

ROOT = files("occframe_registry")
ENTRIES = list(weights().values())
BACKBONES = [entry for entry in ENTRIES if entry.kind == "backbone"]


@pytest.mark.parametrize("name", ["weights", "protocols", "plugins"])
def test_every_entry_is_as_its_schema_says(name):
    schema = json.loads((ROOT / "schema" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    entries = tomllib.loads((ROOT / f"{name}.toml").read_text())
    assert entries
    jsonschema.validate(entries, schema, cls=jsonschema.Draft202012Validator)
    known = set(schema["additionalProperties"]["properties"])
    broken = {"an_entry": dict(next(iter(entries.values()))) | {"sumary": "misspelt"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)
    entry = {"weights": WeightsEntry, "protocols": ProtocolEntry, "plugins": PluginEntry}[name]
    assert known == {field.name for field in dataclasses.fields(entry)} - {"name"}


def test_loaders_give_every_entry_by_its_name():
    for load in (weights, protocols, plugins):
        assert all(entry.name == name for name, entry in load().items())


def test_what_nobody_provides_is_answered_with_what_to_install():
    registry = PluginRegistry.discover(only=[])
    with pytest.raises(PluginError) as caught:
        registry.find("matcher", "faiss")
    assert "plugin faiss of occframe has it" in caught.value.remedy
    assert "blocked plugins: " in caught.value.remedy


def test_there_are_entries_of_both_kinds():
    assert {entry.kind for entry in ENTRIES} == {"backbone", "detector"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_field_says_something(entry: WeightsEntry):
    assert re.fullmatch(r"[a-z0-9_]+", entry.name)
    assert re.fullmatch(r"[\w.]+", entry.file)
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.bytes > 0
    assert urlparse(entry.origin).scheme == "https"
    for text in (entry.summary, entry.licence, entry.terms, entry.training_data):
        assert text.strip() == text != ""
    assert entry.figures
    for figure in entry.figures:
        assert 0 < figure.value <= 1
        assert figure.source in ("reported", "measured")
        assert figure.metric
        assert figure.conditions
    assert bool(entry.block) == bool(entry.image_spec) == (entry.kind == "backbone")


@pytest.mark.parametrize("entry", BACKBONES, ids=lambda entry: entry.name)
def test_the_block_builds_a_network_that_sees_what_the_entry_says(entry: WeightsEntry):
    registry = PluginRegistry.discover()
    block = BackboneBlock.model_validate(dict(entry.block), context={"registry": registry})
    spec = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.image_spec.items()}
    assert BuildContext(registry).build(block).image_spec == ImageSpec(**spec)


@pytest.mark.shared
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_files_are_those_the_entries_describe(entry: WeightsEntry, shared, tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / entry.file).symlink_to(shared / "weights" / entry.file)
    monkeypatch.setenv("OCCFRAME_CACHE", str(tmp_path))
    assert (shared / "weights" / entry.file).stat().st_size == entry.bytes
    assert locate_weights(f"registry:{entry.name}") == str(tmp_path / "weights" / entry.file)
