"""What ``from occframe import …`` gives."""

from __future__ import annotations

import occframe


def test_every_public_name_loads_and_none_is_left_out():
    assert set(occframe.__all__) == {"API_VERSION", "__version__", "hookimpl", *occframe._HOME_OF}
    for name in occframe.__all__:
        assert getattr(occframe, name) is not None
