from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights beside the checkout; see ../shared/README.md there."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared material at {SHARED}")
    return SHARED
