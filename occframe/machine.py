"""What this machine offers."""

from __future__ import annotations

import os

MOST_THREADS = 16


def usable_cores() -> int:
    """Cores this process may use: fewer than the machine has in a container or under taskset."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        return os.cpu_count() or 1


def default_threads() -> int:
    """Threads for decoding and drawing where the configuration names no number."""
    return min(usable_cores(), MOST_THREADS)
