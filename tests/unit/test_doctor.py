"""Each fault the doctor knows has its own words and remedy."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from occframe import doctor


def installed(monkeypatch, *names):
    found = [SimpleNamespace(name=name, version="1.0") for name in names]
    monkeypatch.setattr(doctor, "distributions", lambda: found)


def test_this_machine_is_examined():
    findings = {finding.what: finding for finding in doctor.examine()}
    assert findings["Python"].level == "ok"
    assert findings["torch"].level == "ok"
    assert "components" in findings["plugins"].found
    assert not [finding for finding in findings.values() if finding.level == "bad"]


def test_two_faiss_wheels_collide(monkeypatch):
    installed(monkeypatch, "faiss-cpu", "faiss_gpu", "numpy")
    (finding,) = doctor._faiss()
    assert finding.level == "bad"
    assert finding.found == "faiss-cpu 1.0 and faiss-gpu 1.0 are installed together and overwrite each other"
    assert finding.remedy.startswith("pip uninstall -y faiss-cpu faiss-gpu, then one of")


def test_an_empty_faiss_folder_is_recognised(monkeypatch):
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "faiss", ModuleType("faiss"))
    (finding,) = doctor._faiss()
    assert finding.level == "bad"
    assert "empty folder" in finding.found


def test_no_faiss_is_a_note(monkeypatch):
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "faiss", None)
    (finding,) = doctor._faiss()
    assert (finding.level, finding.remedy) == ("note", 'pip install "occframe[cpu]" or "occframe[gpu]"')


def test_two_opencv_wheels_are_noted(monkeypatch):
    installed(monkeypatch, "opencv-python", "opencv-python-headless")
    first, *_ = doctor._opencv()
    assert first.level == "note"
    assert "pip uninstall -y opencv-python opencv-python-headless" in first.remedy


def test_a_broken_torch_is_bad(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (finding,) = doctor._torch()
    assert finding.level == "bad"
    assert "pip install" in finding.remedy


@pytest.mark.parametrize("variable", ["OCCFRAME_DISABLED_PLUGINS"])
def test_blocked_plugins_are_noted(monkeypatch, variable):
    monkeypatch.setenv(variable, "losses")
    findings = {finding.what: finding for finding in doctor._plugins()}
    assert any(what.startswith("plugin losses") and finding.level == "note" for what, finding in findings.items())
