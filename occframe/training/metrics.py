"""``metrics.jsonl``: one JSON object a line, each with the ``step`` it was written after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from occframe.errors import OccframeError
from occframe.storage import exists, local_path, read_bytes, write_bytes


class MetricsLog:
    """Appended to line by line on a local disk; elsewhere, where files cannot grow, written anew by ``flush``.

    told: hears the figures of every line, those of another kind than "steps" as ``kind.name``, and the step.
    """

    def __init__(self, url: str, told: Callable[[Mapping[str, float], int], None] | None = None) -> None:
        self.url = url
        self._told = told
        self._path = local_path(url)
        self._lines: list[bytes] = []  # what a remote file will hold

    def rewind(self, step: int) -> None:
        """Forget what was written after ``step``, and a last line that a kill cut short."""
        found = read_bytes(self.url) if exists(self.url) else b""
        kept = [line for line in found.splitlines(keepends=True) if _step_of(line) <= step]
        if b"".join(kept) != found:
            write_bytes(self.url, b"".join(kept))
        self._lines = kept if self._path is None else []

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line; ``record`` has a "step" and only finite numbers. Raises OccframeError on a full disk."""
        line = json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"
        if self._told is not None:
            self._told(_figures(record), record["step"])
        if self._path is None:
            self._lines.append(line)
            return
        try:
            with open(self._path, "ab") as file:
                file.write(line)
        except OSError as error:
            raise OccframeError(
                f"cannot write {self._path}: {error.strerror}",
                remedy="free some space or choose another run_dir, then run again: it goes on from the last checkpoint",
            ) from error

    def flush(self) -> None:
        if self._path is None:
            write_bytes(self.url, b"".join(self._lines))


class NoLog(MetricsLog):
    """Of the processes that leave the writing to the first one."""

    def __init__(self) -> None:
        self.url = ""

    def rewind(self, step: int) -> None: ...

    def write(self, record: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    prefix = "" if record.get("kind", "steps") == "steps" else f"{record['kind']}."
    numbers = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "step"}
    return {prefix + name: float(value) for name, value in numbers.items()}


def _step_of(line: bytes) -> float:
    """The step of a whole line; infinity for half of one."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
