"""The steps that come with occframe, registered like anybody's; each lives in a file of its own."""

from __future__ import annotations

from occframe.hookspecs import hookimpl
from occframe.plugins import Register


@hookimpl
def occframe_register_steps(register: Register) -> None:
    register(
        "align",
        "occframe.steps.align:build",
        config="occframe.steps.align:AlignConfig",
        summary="one aligned face for every picture of a data set, with a list of those where none was found",
    )
    register(
        "occlude",
        "occframe.steps.occlude:build",
        config="occframe.steps.occlude:OccludeConfig",
        summary="an occluded copy of a data set, with masks, parameters and the recipe to make it again",
    )
    register(
        "pretrained",
        "occframe.steps.pretrained:build",
        config="occframe.steps.pretrained:PretrainedConfig",
        summary="a model from weights that somebody else trained",
    )
    register(
        "train",
        "occframe.steps.train:build",
        config="occframe.steps.train:TrainConfig",
        summary="a recogniser learns from a data set, with or without occlusion",
    )
    register(
        "train_generator",
        "occframe.steps.train_generator:build",
        config="occframe.steps.train_generator:TrainGeneratorConfig",
        summary="an image-to-image network learns to undo something, such as glasses, against a discriminator",
    )
    register(
        "restore",
        "occframe.steps.restore:build",
        config="occframe.steps.restore:RestoreConfig",
        summary="a data set with the glasses taken off by a generator, where there are any, and what became of each",
    )
    register(
        "embed",
        "occframe.steps.embed:build",
        config="occframe.steps.embed:EmbedConfig",
        summary="every face of a data set through a model, occluded or not, into a gallery of embeddings",
    )
    register(
        "gallery",
        "occframe.steps.gallery:build",
        config="occframe.steps.gallery:GalleryStepConfig",
        summary="embeddings that were made elsewhere take part in this run",
    )
    register(
        "index",
        "occframe.steps.index:build",
        config="occframe.steps.index:IndexConfig",
        summary="embeddings made searchable by a matcher",
    )
    register(
        "search",
        "occframe.steps.search:build",
        config="occframe.steps.search:SearchConfig",
        summary="the nearest enrolled faces of every probe, for each condition",
    )
    register(
        "evaluate",
        "occframe.steps.evaluate:build",
        config="occframe.steps.evaluate:EvaluateConfig",
        summary="protocols over every condition of the probes, clean and occluded side by side",
    )
    register(
        "sweep",
        "occframe.steps.sweep:build",
        config="occframe.steps.sweep:SweepConfig",
        summary="protocols over occlusions of rising severity, on probes, gallery or both",
    )
    register(
        "image_quality",
        "occframe.steps.image_quality:build",
        config="occframe.steps.image_quality:ImageQualityConfig",
        summary="restored pictures beside what they should be: PSNR, SSIM, identity kept, glasses still seen, harm",
    )
    register(
        "report",
        "occframe.steps.report:build",
        config="occframe.steps.report:ReportConfig",
        summary="one HTML file of an evaluation: tables, curves, occluded samples, worst mistakes",
    )
