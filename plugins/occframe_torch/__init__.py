"""Exact search with torch alone: any device, no FAISS needed."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_matchers(register):  # type: ignore[no-untyped-def]
    register(
        "torch",
        "occframe_torch.matcher:TorchMatcher",
        config="occframe_torch.configs:TorchConfig",
        summary="exact search by matrix products in blocks, float32 or float16, on any device; needs no FAISS",
        caps={"gpu", "incremental", "delete"},
    )
