"""Search with FAISS: exact, in inverted lists or through a graph, on CPU, and on GPUs where there are some."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_matchers(register):  # type: ignore[no-untyped-def]
    register(
        "faiss",
        "occframe_faiss.matcher:FaissMatcher",
        config="occframe_faiss.configs:FaissConfig",
        summary="FAISS: exact in float32 or float16, inverted lists, one bit a dimension, or a graph; on CPU or GPU",
        caps={"gpu", "incremental", "delete", "plan"},
    )
