"""Recognition losses: a margin between each identity's class centre and all others."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_losses(register):  # type: ignore[no-untyped-def]
    register(
        "cosface",
        "occframe_losses.margin:build_cosface",
        config="occframe_losses.configs:CosFaceConfig",
        summary="CosFace: softmax with a margin on the cosine",
        caps={"grad"},
    )
    register(
        "arcface",
        "occframe_losses.margin:build_arcface",
        config="occframe_losses.configs:ArcFaceConfig",
        summary="ArcFace: softmax with a margin on the angle",
        caps={"grad"},
    )
    register(
        "adaface",
        "occframe_losses.margin:build_adaface",
        config="occframe_losses.configs:AdaFaceConfig",
        summary="AdaFace: a margin that follows the quality of the face",
        caps={"grad"},
    )
