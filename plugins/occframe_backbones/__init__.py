"""Recognition networks: IResNet (ArcFace's trunk) and MobileFaceNet."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_backbones(register):  # type: ignore[no-untyped-def]
    for depth in (18, 34, 50, 100):
        register(
            f"iresnet{depth}",
            f"occframe_backbones.iresnet:build_iresnet{depth}",
            config="occframe_backbones.configs:IResNetConfig",
            summary=f"IResNet-{depth}; loads InsightFace arcface_torch checkpoints unchanged",
            caps={"split", "grad"},
        )
    register(
        "mobilefacenet",
        "occframe_backbones.mobilefacenet:build_mobilefacenet",
        config="occframe_backbones.configs:MobileFaceNetConfig",
        summary="MobileFaceNet, 1.0 M parameters; loads two public checkpoints by preset",
        caps={"split", "grad"},
    )
    register(
        "onnx",
        "occframe_backbones.onnx:build_onnx",
        config="occframe_backbones.configs:OnnxConfig",
        summary="any recogniser in an ONNX file, InsightFace's among them, for inference (extra `onnx`)",
    )
    register(
        "callable",
        "occframe_backbones.function:build_callable",
        config="occframe_backbones.configs:CallableConfig",
        summary="any Python function from pictures to embeddings, for inference",
    )
