"""Checkpoints: everything a killed training needs to go on as if nothing had happened.

A checkpoint is ``step-N.pt`` (tensors and plain values, readable without running code) and ``step-N.json`` beside it
with its SHA-256, written afterwards: a state without a seal, or whose bytes do not fit it, was never finished. Tables
too large for one process (class centres of millions) lie beside them as ``step-N.NAME-FIRST.bin``, a file of rows from
each process, so that any number of processes can read them again.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from occframe.errors import OccframeError
from occframe.storage import create_file, filesystem, join, make_dirs, read_bytes, write_bytes, write_json

State = Mapping[str, Any]
#: (first row, rows in all processes together, the rows of this one [n, D]).
Shard = tuple[int, int, torch.Tensor]

_KEPT = 2
_PIECE = 16 << 20  # bytes written at once
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

    def save_shards(self, step: int, shards: Mapping[str, Shard]) -> list[dict[str, Any]]:
        """Write this process's rows of large tables, streamed. Returns what ``save`` seals, of all processes."""
        written = []
        for name, (first, rows, tensor) in shards.items():
            file = self._file(step, f"{name}-{first:012d}.bin")
            digest = hashlib.sha256()
            with create_file(file) as out:
                for part in torch.split(tensor.detach(), max(1, _PIECE // max(1, tensor[:1].nbytes))):
                    data = part.float().cpu().contiguous().numpy().astype("<f4", copy=False).tobytes()
                    digest.update(data)
                    out.write(data)
            entry = {"name": name, "first": first, "count": len(tensor), "rows": rows, "columns": tensor.shape[1]}
            written.append(entry | {"sha256": digest.hexdigest()})
        return written

    def save(self, step: int, state: State, shards: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the state after ``step`` steps. shards: what ``save_shards`` of all processes returned.

        Raises OccframeError where the disk is full or read-only.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getvalue()
        write_bytes(self._file(step, "pt"), data)
        seal = {"step": step, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "shards": list(shards)}
        write_json(self._file(step, "json"), seal)
        self._drop_old(newest=step)

    def load_latest(self) -> State | None:
        """The newest whole state, its tensors on the CPU; None where there is none."""
        for step in sorted(self._sealed_steps(), reverse=True):
            try:
                return self._load(step)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                self._note(f"the checkpoint of step {step} is damaged and passed over: {error}")
        return None

    def read_rows(self, step: int, name: str, first: int, stop: int) -> torch.Tensor:
        """Rows ``first`` to ``stop`` of the large table ``name`` as it was after ``step`` steps: float32, on the CPU.

        Raises OccframeError where files of it are missing or damaged.
        """
        shards = [
            shard for shard in json.loads(read_bytes(self._file(step, "json")))["shards"] if shard["name"] == name
        ]
        if not shards or stop > shards[0]["rows"]:
            there = f"{shards[0]['rows']} rows" if shards else "none"
            raise OccframeError(
                f"the checkpoint of step {step} in {self.url} has {there} of `{name}`, {stop} are wanted",
                remedy="it belongs to a training with other identities or losses; choose another run_dir",
            )
        found = torch.empty(stop - first, shards[0]["columns"])
        for shard in sorted(shards, key=lambda item: item["first"]):
            low, high = max(first, shard["first"]), min(stop, shard["first"] + shard["count"])
            if low < high:
                rows = self._shard(step, shard)
                found[low - first : high - first] = rows[low - shard["first"] : high - shard["first"]]
        return found

    def _shard(self, step: int, shard: Mapping[str, Any]) -> torch.Tensor:
        file = self._file(step, f"{shard['name']}-{shard['first']:012d}.bin")
        data = read_bytes(file)
        if hashlib.sha256(data).hexdigest() != shard["sha256"]:
            raise OccframeError(
                f"{file} is damaged", remedy="restore it, or delete the checkpoint to go on from an older"
            )
        return torch.frombuffer(bytearray(data), dtype=torch.float32).view(shard["count"], shard["columns"])

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
