"""What this machine offers."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

from occframe.errors import OccframeError, first_line

MOST_THREADS = 16

#: Environment variable: the cores that this process has among others of one run.
CORES = "OCCFRAME_CORES"


def usable_cores() -> int:
    """Cores this process may use: fewer than the machine has in a container, under taskset or beside other workers."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        count = os.cpu_count() or 1
    share = os.environ.get(CORES, "")
    return min(count, max(1, int(share))) if share.isdecimal() else count


def default_threads() -> int:
    """Threads for decoding and drawing where the configuration names no number."""
    return min(usable_cores(), MOST_THREADS)


def available_memory() -> int | None:
    """Bytes that can be had without swapping, None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def check_memory(wanted: int, what: str) -> None:
    """Before ``wanted`` bytes are allocated: raises OccframeError where the machine does not have them."""
    have = available_memory()
    if have is not None and wanted > have:
        raise OccframeError(
            f"{what} take {wanted / 2**30:.1f} GiB of memory, {have / 2**30:.1f} GiB are available",
            remedy="read them piece by piece, or use a machine with more memory",
        )


@cache
def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next allocation; for work on the CPU, in the whole process, for good.

    Left alone it returns the activations of a network to the kernel, layer by layer, which clears each page before it
    hands it out again. Kept, inference gains 1.2 (MobileFaceNet) to 1.7 times (IResNet-18), training a fifth, for some
    200 MB that stay with the process. Does nothing where the C library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, 32 * 2**20)  # the most that glibc takes
    libc.mallopt(trim_threshold, 2**31 - 1)


def one_thread_here() -> None:
    """Have torch compute with no more than the calling thread, which is one of as many as there are cores.

    Left alone each of them has helpers of its own, which wait for one another: two threads that draw glasses on two
    cores gain a third. ``torch.set_num_threads`` would say so to threads that begin later, too. Does nothing where
    OpenMP's library cannot be found.
    """
    import torch

    torch.get_num_threads()  # sets torch's default in a new thread, once
    for library in _openmp():
        library.omp_set_num_threads(1)


@cache
def _openmp() -> list[ctypes.CDLL]:
    """Libraries of OpenMP in this process."""
    try:
        mapped = Path("/proc/self/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[5] for line in mapped if "libgomp" in line or "libiomp5" in line}
        return [ctypes.CDLL(path) for path in sorted(paths)]
    except OSError:  # not Linux, or a library that was replaced while it was in use
        return []


def resolve_device(name: str) -> str:
    """A torch device string; "auto" is CUDA where there is one. Raises OccframeError for a device that is not there."""
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise OccframeError(f"device `{name}` is not usable: {reason}", remedy="use `device: auto` or `cpu`") from error
    return name
