"""What a piece of code leaves behind: open files, threads, child processes, CUDA memory."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

#: CUDA memory that a test may keep: caches of the libraries it called for the first time.
CUDA_SLACK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Resources:
    """files: by what they are open on. threads: names. children: process ids. cuda_bytes: allocated by torch."""

    files: tuple[str, ...]
    threads: frozenset[tuple[int, str]]
    children: frozenset[int]
    cuda_bytes: int

    @classmethod
    def now(cls) -> Resources:
        gc.collect()
        threads = frozenset((item.ident or 0, item.name) for item in threading.enumerate() if item.is_alive())
        return cls(tuple(sorted(_open_files())), threads, frozenset(_children()), _cuda_bytes())

    @classmethod
    def settled(cls, before: Resources, seconds: float = 2.0) -> Resources:
        """As it is once nothing is left over, or after ``seconds``: a pool that was told to stop needs a moment."""
        deadline = time.monotonic() + seconds
        while (found := cls.now()).beyond(before) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def beyond(self, before: Resources) -> list[str]:
        """What there is more of than before, in words."""
        left = list(self.files)
        for name in before.files:
            if name in left:
                left.remove(name)
        faults = [f"open file {name}" for name in left]
        faults += [f"thread {name}" for _, name in sorted(self.threads - before.threads)]
        faults += [f"child process {number}" for number in sorted(self.children - before.children)]
        if (more := self.cuda_bytes - before.cuda_bytes) > CUDA_SLACK_BYTES:
            faults.append(f"{more / 2**20:.0f} MiB of CUDA memory")
        return faults


def _open_files() -> list[str]:
    """Regular files that this process holds open; none where the system does not tell (Windows, macOS)."""
    found = []
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            target = os.readlink(entry)  # noqa: PTH115
        except OSError:  # the descriptor of this very listing
            continue
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
            found.append(target)
    return found


def _children() -> list[int]:
    try:
        task = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(number) for number in task.split()]


def _cuda_bytes() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0
