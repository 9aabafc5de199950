"""Checkpoints: everything a killed training needs to go on as if nothing had happened.

A checkpoint is ``step-N.pt`` (tensors and plain values, readable without running code) and ``step-N.json`` beside it
with its SHA-256, written afterwards: a state without a seal, or whose bytes do not fit it, was never finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from occframe.storage import filesystem, join, make_dirs, read_bytes, write_bytes, write_json

State = Mapping[str, Any]

_KEPT = 2
_SEAL = re.compile(r"step-(\d+)\.json")
_OURS = re.compile(r"\.?step-\d+\.")  # with the dot: set aside by a write that was killed


class Checkpoints:
    """The checkpoints in one directory, of which the newest two are kept.

    note: told when a damaged checkpoint is passed over.
    """

    def __init__(self, url: str, note: Callable[[str], None]) -> None:
        self.url = url
        self._note = note
        make_dirs(url)

    def save(self, step: int, state: State) -> None:
        """Write the state after ``step`` steps. Raises OccframeError where the disk is full or read-only."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getvalue()
        write_bytes(self._file(step, "pt"), data)
        write_json(
            self._file(step, "json"), {"step": step, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        )
        self._drop_old(newest=step)

    def load_latest(self) -> State | None:
        """The newest whole state, its tensors on the CPU; None where there is none."""
        for step in sorted(self._sealed_steps(), reverse=True):
            try:
                return self._load(step)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                self._note(f"the checkpoint of step {step} is damaged and passed over: {error}")
        return None

    def _load(self, step: int) -> State:
        seal = json.loads(read_bytes(self._file(step, "json")))
        data = read_bytes(self._file(step, "pt"))
        if hashlib.sha256(data).hexdigest() != seal["sha256"]:
            raise ValueError(f"{len(data)} bytes that are not the {seal['bytes']} written")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

    def _file(self, step: int, suffix: str) -> str:
        return join(self.url, f"step-{step:09d}.{suffix}")

    def _sealed_steps(self) -> list[int]:
        return [int(match[1]) for name in self._names() if (match := _SEAL.fullmatch(name))]

    def _names(self) -> list[str]:
        fs, path = filesystem(self.url)
        fs.invalidate_cache(path)
        return [str(entry).rpartition("/")[2] for entry in fs.ls(path, detail=False)]

    def _drop_old(self, newest: int) -> None:
        """Delete all but the two newest up to ``newest``: later ones are damaged, unsealed ones unfinished."""
        fs, path = filesystem(self.url)
        steps = sorted(step for step in self._sealed_steps() if step <= newest)[-_KEPT:]
        kept = tuple(f"step-{step:09d}." for step in steps)
        for name in sorted(self._names()):  # .json before .pt: no seal may outlive its state
            if _OURS.match(name) and not name.startswith(kept):
                fs.rm_file(f"{path}/{name}")
