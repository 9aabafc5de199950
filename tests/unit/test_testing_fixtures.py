"""The fixtures that plugin authors are given."""

from __future__ import annotations

import threading
from types import ModuleType

import numpy as np
import pytest
import torch

from occframe import hookimpl
from occframe.testing.leaks import Resources


def plugin(**hooks):
    module = ModuleType("a_plugin")
    vars(module).update(hooks)
    return module


def test_a_registry_holds_what_it_is_given_and_no_more(plugin_registry, monkeypatch):
    monkeypatch.setenv("OCCFRAME_LOAD_PLUGINS", "losses")

    @hookimpl
    def occframe_register_losses(register):
        register("mine", "x:y", config="x:z", summary="")

    registry = plugin_registry(plugin(occframe_register_losses=occframe_register_losses))
    assert [item.qualified_name for item in registry.components()] == ["test-a_plugin:mine"]
    whole = plugin_registry(plugin(occframe_register_losses=occframe_register_losses), bundled=True)
    assert {"mine", "cosface"} <= {item.name for item in whole.components("loss")}
    with pytest.raises(pytest.fail.Exception, match="unknown hook occframe_register_los"):
        plugin_registry(plugin(occframe_register_los=lambda register: None))


def test_tiny_faces_are_a_data_set_of_people_who_differ(tiny_faces):
    faces = tiny_faces(identities=3, images=4, height=40, width=36)
    assert len(faces.ids) == len(set(faces.ids)) == 12
    assert faces.landmarks.shape == (12, 5, 2)
    pictures = np.stack(faces.read(range(12))).astype(float)
    assert pictures.shape == (12, 40, 36, 3)
    people = pictures.reshape(3, 4, -1)
    within = np.abs(people - people.mean(1, keepdims=True)).mean()
    between = np.abs(people.mean(1) - people.mean((0, 1))).mean()
    assert between > within
    assert faces.fingerprint() == tiny_faces(identities=3, images=4, height=40, width=36).fingerprint()


def test_occluded_samples_differ_only_behind_the_mask(occluded_samples):
    batch = occluded_samples(6, dim=4)
    assert batch.mask.shape == (6, 1, 32, 32)
    changed = (batch.images != batch.clean).any(dim=1, keepdim=True)
    assert not (changed & (batch.mask == 0)).any()
    assert batch.mask.amax(dim=(1, 2, 3)).tolist() == [1, 1, 0, 1, 1, 0]
    torch.testing.assert_close(batch.teacher.norm(dim=1), torch.ones(6))


def test_a_gallery_is_made_of_people_who_are_near_themselves(make_gallery):
    gallery = make_gallery(people=4, images=3, dim=8, columns={"age": list(range(12))})
    (batch,) = gallery.iter_batches(columns=["age"])
    assert batch.columns["age"].tolist() == list(range(12))
    products = batch.vectors.astype(np.float32) @ batch.vectors.astype(np.float32).T
    np.fill_diagonal(products, -1)
    assert [batch.subjects[row] for row in products.argmax(1)] == batch.subjects


def test_a_pipeline_that_fails_says_so(run_pipeline):
    outcome = run_pipeline("steps: [{use: nothing}]")
    outcome.assert_failed(saying="no step is called `nothing`", code=2)
    with pytest.raises(AssertionError, match="exited with 2"):
        outcome.assert_ok()
    with pytest.raises(AssertionError, match="is not in"):
        outcome.assert_failed(saying="something else")
    assert outcome.metrics == {}


def test_leaks_are_found(tmp_path):
    before = Resources.now()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left over")
    thread.start()
    with open(tmp_path / "left.txt", "w"):
        left = Resources.settled(before, seconds=0.05).beyond(before)
    assert left == [f"open file {tmp_path / 'left.txt'}", "thread left over"]
    stop.set()
    thread.join()
    assert Resources.settled(before).beyond(before) == []


def test_a_clean_test_passes_the_leak_check(no_leaks, tmp_path):
    (tmp_path / "closed.txt").write_text("closed")
