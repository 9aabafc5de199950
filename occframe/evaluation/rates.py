"""How rates are written in the names of figures."""

from __future__ import annotations


def rate_text(rate: float) -> str:
    """``1e-3``, ``2.5e-4``: as papers write a false accept rate."""
    mantissa, _, exponent = f"{rate:.1e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
