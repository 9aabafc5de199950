from __future__ import annotations

import re
from urllib.parse import urlparse

import pytest

from occframe.component import BackboneBlock, BuildContext
from occframe.plugins import PluginRegistry
from occframe.types import ImageSpec
from occframe.weights import locate_weights
from occframe_registry import WeightsEntry, weights

ENTRIES = list(weights().values())
BACKBONES = [entry for entry in ENTRIES if entry.kind == "backbone"]


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
