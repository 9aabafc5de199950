from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of the code: figures of speed are benchmarks' business.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Tests run side by side (pytest -n 2): more threads than cores make all of them slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights beside the checkout; see ../shared/README.md there."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared material at {SHARED}")
    return SHARED
