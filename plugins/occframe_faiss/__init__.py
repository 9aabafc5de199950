"""Search with FAISS: exact flat indexes on CPU, and on a GPU where there is one."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_matchers(register):  # type: ignore[no-untyped-def]
    register(
        "faiss",
        "occframe_faiss.matcher:FaissMatcher",
        config="occframe_faiss.configs:FaissConfig",
        summary="exact inner product with FAISS, float32 or float16, on CPU or GPU",
        caps={"gpu", "incremental", "delete"},
    )
