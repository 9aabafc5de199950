from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import fsspec
import pytest
import torch

from occframe.errors import OccframeError
from occframe.training.checkpoint import Checkpoints


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": {"w": torch.full((100,), float(step))}, "last": {"loss": 0.5}}


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path, notes) -> Checkpoints:
    return Checkpoints(str(tmp_path / "checkpoints"), notes.append)


def files(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in Path(checkpoints.url).iterdir())


def test_the_newest_comes_back_as_it_was(checkpoints, notes) -> None:
    assert checkpoints.load_latest() is None
    for step in (5, 10, 15):
        checkpoints.save(step, state(step))
    loaded = checkpoints.load_latest()
    assert loaded["step"] == 15
    assert loaded["last"] == {"loss": 0.5}
    assert torch.equal(loaded["weights"]["w"], torch.full((100,), 15.0))
    assert notes == []


def test_the_last_two_are_kept(checkpoints) -> None:
    for step in (5, 10, 15):
        checkpoints.save(step, state(step))
    assert files(checkpoints) == [f"step-{step:09d}.{suffix}" for step in (10, 15) for suffix in ("json", "pt")]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_one_is_passed_over_with_a_note(checkpoints, notes, damage) -> None:
    checkpoints.save(5, state(5))
    checkpoints.save(10, state(10))
    damage(Path(checkpoints.url) / "step-000000010.pt")
    assert checkpoints.load_latest()["step"] == 5
    assert len(notes) == 1
    assert "the checkpoint of step 10 is damaged and passed over" in notes[0]


def test_one_without_its_seal_was_never_finished(checkpoints, notes) -> None:
    checkpoints.save(5, state(5))
    checkpoints.save(10, state(10))
    (Path(checkpoints.url) / "step-000000010.json").unlink()
    assert checkpoints.load_latest()["step"] == 5
    assert notes == []


@pytest.mark.parametrize("seal", ["", "[]", "{}", '{"sha256": 3}'])
def test_a_damaged_seal_counts_as_damage(checkpoints, notes, seal) -> None:
    checkpoints.save(5, state(5))
    checkpoints.save(10, state(10))
    (Path(checkpoints.url) / "step-000000010.json").write_text(seal)
    assert checkpoints.load_latest()["step"] == 5
    assert len(notes) == 1


def test_leftovers_of_a_killed_writer_and_damaged_successors_are_swept_away(checkpoints) -> None:
    folder = Path(checkpoints.url)
    for step in (5, 10, 20):
        checkpoints.save(step, state(step))
    flip(folder / "step-000000020.pt")
    (folder / ".step-000000020.pt.123.tmp").write_bytes(b"half")
    (folder / "README").write_text("somebody's own file")
    assert checkpoints.load_latest()["step"] == 10
    checkpoints.save(15, state(15))
    assert files(checkpoints) == [
        "README",
        *(f"step-{step:09d}.{suffix}" for step in (10, 15) for suffix in ("json", "pt")),
    ]


def test_a_full_disk_says_so_and_leaves_the_previous_one(checkpoints, monkeypatch) -> None:
    checkpoints.save(5, state(5))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OccframeError, match=r"cannot write .*No space left(.|\n)*free some space"):
            checkpoints.save(10, state(10))
    assert checkpoints.load_latest()["step"] == 5


def test_a_checkpoint_runs_no_code(checkpoints, notes, tmp_path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/pwned",)

    checkpoints.save(5, {"step": 5, "evil": Evil()})
    assert checkpoints.load_latest() is None
    assert "step 5 is damaged" in notes[0]
    assert not (tmp_path / "pwned").exists()


def test_any_file_system_will_do(notes) -> None:
    checkpoints = Checkpoints("memory://training/checkpoints", notes.append)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    assert checkpoints.load_latest()["step"] == 3
    fs = fsspec.filesystem("memory")
    assert len(fs.ls("/training/checkpoints", detail=False)) == 4
    seal = json.loads(fs.cat_file("/training/checkpoints/step-000000003.json"))
    assert seal["step"] == 3
