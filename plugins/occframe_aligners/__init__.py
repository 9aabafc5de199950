"""Face detectors with five landmarks, and the alignment every ArcFace-like recogniser expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from occframe import hookimpl

if TYPE_CHECKING:
    from occframe.plugins import Register


@hookimpl
def occframe_register_aligners(register: Register) -> None:
    register(
        "arcface",
        "occframe_aligners.arcface:ArcFaceAligner",
        config="occframe_aligners.configs:ArcFaceConfig",
        summary="similarity transform of 5 landmarks onto the ArcFace template, 112x112, 112x96 or any other size",
    )


@hookimpl
def occframe_register_detectors(register: Register) -> None:
    register(
        "yunet",
        "occframe_aligners.yunet:YuNetDetector",
        config="occframe_aligners.configs:YuNetConfig",
        summary="YuNet through OpenCV: fast, finds masked faces; weights by path or registry name",
    )
    register(
        "mtcnn",
        "occframe_aligners.mtcnn:MTCNNDetector",
        config="occframe_aligners.configs:MTCNNConfig",
        summary="MTCNN in torch; its weights come from PyPI with the extra `detect`",
    )
