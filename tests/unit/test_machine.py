from __future__ import annotations

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from occframe.machine import one_thread_here

# Arrays that come and go, as the activations of a network do.
SCRIPT = """
import resource, sys
import numpy as np
from occframe.machine import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def layers():
    for size in (4, 16, 8):
        np.empty(size << 20, np.uint8).fill(1)

layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def threads_of_torch() -> int:
    """In a fresh thread, as torch counts its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP's library is found on Linux only")
def test_one_thread_here_is_one_here_and_as_many_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(1, initializer=one_thread_here) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
            assert pool.submit(lambda: torch.ones(200_000).add(1).sum().item()).result() == 400_000
            assert pool.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == threads_of_torch() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    faults = {}
    for mode in ("leave", "keep"):
        command = [sys.executable, "-c", SCRIPT, mode]
        faults[mode] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] < 100 < faults["leave"]
