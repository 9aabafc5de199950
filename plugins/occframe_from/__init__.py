"""FROM: masking of corrupted features, as EP4099217A4 claims and arXiv 2108.09468 publishes it."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_backbones(register):  # type: ignore[no-untyped-def]
    register(
        "from",
        "occframe_from.network:build_from",
        config="occframe_from.configs:FromConfig",
        summary="FROM around any trunk with capability split: masks corrupted features, names the occlusion",
        caps={"grad", "mask_output"},
    )
    register(
        "from-reference",
        "occframe_from.reference:build_reference",
        config="occframe_from.configs:FromReferenceConfig",
        summary="FROM's published network, 49.3 M parameters; loads its authors' checkpoints",
        caps={"grad", "mask_output"},
    )


@hookimpl
def occframe_register_losses(register):  # type: ignore[no-untyped-def]
    register(
        "occlusion-pattern",
        "occframe_from.losses:build_pattern",
        config="occframe_from.configs:OcclusionPatternConfig",
        summary="cross-entropy of the occlusion pattern that the mask shows",
        caps={"grad"},
    )
    register(
        "occlusion-box",
        "occframe_from.losses:build_box",
        config="occframe_from.configs:OcclusionBoxConfig",
        summary="distance between the corners of the occlusion that the mask shows and the true ones",
        caps={"grad"},
    )
    register(
        "mask-coverage",
        "occframe_from.losses:build_coverage",
        config="occframe_from.configs:MaskCoverageConfig",
        summary="the mask follows the visible share of each place; open on clean faces",
        caps={"grad"},
    )
    register(
        "distil-clean",
        "occframe_from.losses:build_distil",
        config="occframe_from.configs:DistilCleanConfig",
        summary="the embedding stays near the teacher's of the face before occlusion",
        caps={"grad"},
    )


@hookimpl
def occframe_register_commands(register):  # type: ignore[no-untyped-def]
    register(
        "explain",
        "occframe_from.command:explain",
        config=None,
        summary="Show what a recogniser masked in a face, and what occlusion it saw.",
    )
