"""What is passed on of somebody else's error, also where it says nothing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from occframe import hookimpl
from occframe.errors import OccframeError, first_line
from occframe.gallery.index_files import SavedIndex
from occframe.plugins import PluginRegistry


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \ntwo"), "one  "),
        (MemoryError(), "MemoryError"),
        (OSError(" \n"), "OSError"),
        (OccframeError("one", remedy="two"), "one"),
    ],
)
def test_the_first_line(error: BaseException, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(("error", "reason"), [(MemoryError(), "MemoryError"), (RuntimeError("where\nwhy\n"), "why")])
def test_an_index_that_cannot_be_read(tmp_path: Path, error: Exception, reason: str) -> None:
    (tmp_path / "vectors.bin").write_bytes(b"?")
    index = SavedIndex(str(tmp_path), {}, [], str(tmp_path / "vectors.bin"))
    with pytest.raises(OccframeError, match=rf"vectors.bin cannot be read: {reason}\n"), index.open_vectors():
        raise error


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (MemoryError(), "MemoryError"),
        (ImportError("one\ntwo"), "ImportError: one"),
        (OccframeError(""), "OccframeError"),
        (OccframeError("one", remedy="two"), "one"),
    ],
)
def test_a_plugin_that_fails_in_silence_is_reported(error: Exception, shown: str) -> None:
    @hookimpl
    def occframe_register_losses(register: object) -> None:
        raise error

    plugin = ModuleType("silent")
    vars(plugin)["occframe_register_losses"] = occframe_register_losses
    record = PluginRegistry().register(plugin, name="silent", distribution="silent")
    assert (record.status, record.error) == ("failed", shown)
