"""Removal of glasses by convolution-SE networks, and recognition through it (the method of US 11403876 B2)."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_generators(register):  # type: ignore[no-untyped-def]
    register(
        "cse",
        "occframe_deglass.cse:build",
        config="occframe_deglass.configs:CseConfig",
        summary="glasses removed by connected convolution-SE networks; 2.0 M parameters at width 32",
        caps={"grad", "gpu"},
    )
