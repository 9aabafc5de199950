"""Embedding, indexing and searching by Ray actors, on one machine or many."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_engines(register):  # type: ignore[no-untyped-def]
    register(
        "ray",
        "occframe_ray.engine:RayEngine",
        config="occframe_ray.configs:RayConfig",
        summary="Ray actors, on this machine or a cluster (extra `ray`)",
        caps={"gpu"},
    )
