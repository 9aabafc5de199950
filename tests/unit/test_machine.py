from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    faults = {}
    for mode in ("leave", "keep"):
        command = [sys.executable, "-c", SCRIPT, mode]
        faults[mode] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] < 100 < faults["leave"]
