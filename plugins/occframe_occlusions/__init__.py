"""Generators of occlusion that come with occframe."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_occlusions(register):  # type: ignore[no-untyped-def]
    register(
        "rectangles",
        "occframe_occlusions.rectangles:build",
        config="occframe_occlusions.configs:RectanglesConfig",
        summary="opaque rectangles of a colour, a texture or a patch of another face",
    )
