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


@hookimpl
def occframe_register_backbones(register):  # type: ignore[no-untyped-def]
    register(
        "glasses-recogniser",
        "occframe_deglass.recogniser:build",
        config="occframe_deglass.recogniser_configs:GlassesRecogniserConfig",
        summary="no glasses, eyeglasses or sunglasses: a small network, or the maps of a recogniser's trunk",
    )


@hookimpl
def occframe_register_steps(register):  # type: ignore[no-untyped-def]
    register(
        "train_glasses_recogniser",
        "occframe_deglass.train_recogniser:build",
        config="occframe_deglass.recogniser_configs:TrainGlassesRecogniserConfig",
        summary="who wears glasses, learnt from an attribute of real faces and from synthetic glasses",
    )


@hookimpl
def occframe_register_commands(register):  # type: ignore[no-untyped-def]
    register(
        "deglass",
        "occframe_deglass.command:deglass",
        config=None,
        summary="Remove glasses from the faces of photographs.",
    )
