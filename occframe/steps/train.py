"""Step ``train``: a recogniser learns from a data set, with or without occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from occframe.component import BackboneBlock, DataRef, FileRef, LossBlock, ModelRef, OcclusionBlock
from occframe.distributed import Ranks, ranks
from occframe.errors import OccframeError
from occframe.machine import default_threads
from occframe.precision import Precision
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe.training.optimisers import OptimiserConfig, Sgd
from occframe.training.parts import Part
from occframe.training.schedules import CosineSchedule, Schedule

if TYPE_CHECKING:
    from torch import nn

    from occframe.data import Quarantine
    from occframe.models import LoadedModel
    from occframe.training.loop import Training
    from occframe.training.recogniser import GradientStep
    from occframe.types import Backbone, Dataset


class TrainConfig(StepConfig):
    produces = "model"

    data: DataRef = Field(description="the faces to learn from")
    backbone: BackboneBlock = Field(description="the recognition network")
    weights: FileRef | None = Field(
        None, description="weights to begin with: a path, a URL or registry:NAME; none: from scratch"
    )
    start: ModelRef | None = Field(
        None,
        description="a model to begin with instead; parts of the backbone that it does not have begin as built, where "
        "the backbone allows that",
    )
    teacher: ModelRef | None = Field(
        None, description="a frozen recogniser whose embeddings of the faces before occlusion loss terms learn from"
    )
    losses: list[LossBlock] = Field(min_length=1, description="loss terms, summed by their weights")
    occlusion: OcclusionBlock | None = Field(None, description="occludes faces while training")
    occlusion_probability: float = Field(
        2 / 3, ge=0, le=1, description="share of images that are occluded, drawn for each image; 2/3 is FROM's recipe"
    )
    flip: bool = Field(True, description="mirror half of the images, before occlusion")
    grey_probability: float = Field(
        0.0, ge=0, le=1, description="share of images that lose their colours, after occlusion, drawn for each image"
    )
    epochs: int = Field(20, ge=1, description="passes over the data")
    batch_size: int = Field(128, ge=2, description="images a step")
    images_per_identity: int | None = Field(
        None,
        ge=1,
        description="so many of a person in a batch, and all people equally often, however many images they have; "
        "none: every image once an epoch",
    )
    optimiser: OptimiserConfig = Field(Sgd(), description="how weights follow gradients")
    parts: dict[str, Part] = Field(
        {},
        description="what learns at a pace of its own, by the beginning of a weight's name: `trunk: {rate: 0.1}`; "
        "`backbone` is all of it, `losses.NAME` are the weights of a loss",
    )
    schedule: Schedule = Field(CosineSchedule(), description="the learning rate over time")
    precision: Precision = Field("auto", description="of the forward pass: auto, fp32, bf16 or fp16 (CUDA only)")
    channels_last: bool = Field(True, description="memory layout of the convolutions; faster on most devices")
    compile: bool = Field(
        False,
        description="run the backbone, and what occludes on the device, through torch.compile: minutes before the "
        "first step, faster ones after",
    )
    clip_norm: float | None = Field(5.0, gt=0, description="largest norm of the gradient, longer ones are scaled down")
    checkpoint_minutes: float = Field(10.0, gt=0, description="longest time between two checkpoints")
    log_every: int = Field(50, ge=1, description="steps between two lines of metrics.jsonl")
    threads: int | None = Field(
        None, ge=1, description="threads that decode and occlude; none: as many as cores, at most 16"
    )
    augment_on: Literal["workers", "device"] = Field(
        "workers",
        description="where faces are occluded and turned grey: in these threads, or on the device that trains; the "
        "pictures are the same",
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.weights is not None and self.start is not None:
            raise ValueError("weights and start both say what to begin with: give one of the two")
        return self


class TrainStep:
    joint = True  # every process of a run takes its part of each batch

    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data import Quarantine
        from occframe.models import save_model
        from occframe.training.run import carry_out, images_a_step, seeded

        config: TrainConfig = context.config
        together = ranks()
        faces = context.dataset(config.data)
        classes = _classes(faces, config.data)
        batch_size = images_a_step(context, config.batch_size, len(faces.ids), together)
        quarantine = Quarantine()
        with seeded(context, "train"):
            training = _assemble(context, faces, classes, batch_size, quarantine, together)
            carry_out(context, training, batch_size)
        if not together.is_main:
            return StepOutcome()
        quarantine.tell(context.note, context.url)
        figures = training.journal.last["epoch"]
        losses = {name: figures[name] for name in training.update.columns if name in figures}
        whole = training.journal.whole
        metrics = {**losses, **whole.figures(), "steps": float(training.step), "images": float(whole.images)}
        extra = {"identities": len(classes), "images": len(faces.ids), "epochs": config.epochs, "losses": losses}
        backbone: nn.Module = training.update.recogniser.backbone  # type: ignore[assignment]  # types.py imports no torch
        meta = save_model(context.url, backbone, config.backbone, extra=extra)
        headline = (
            f"{context.name}: {config.epochs} epochs over {len(faces.ids):,} images of {len(classes):,} identities, "
            f"loss {losses.get('loss', float('nan')):.3f}, {metrics['images_per_s']:,.0f} images/s"
        )
        return StepOutcome(outputs={"": meta}, metrics=metrics, headlines=[headline])


def build(config: TrainConfig, context: object) -> TrainStep:
    return TrainStep()


def _classes(faces: Dataset, name: str) -> list[str]:
    """The identities, sorted: class k is the k-th."""
    classes = sorted(set(faces.subjects))
    if len(classes) < 2:
        found = f"one identity only, {classes[0]!r}" if classes else "no images"
        raise OccframeError(
            f"the data set `{name}` has {found}: a recogniser learns by telling people apart",
            remedy="give it at least two identities: one sub-folder each in a folder, or another split",
        )
    return classes


def _assemble(
    context: StepContext,
    faces: Dataset,
    classes: Sequence[str],
    batch_size: int,
    quarantine: Quarantine,
    together: Ranks,
) -> Training[GradientStep]:
    """Everything built, checked against each other and on the device, nothing trained yet."""

    from occframe.data import FaceLoader
    from occframe.models import begin_from, load_model
    from occframe.precision import resolve_precision
    from occframe.training.compiling import compile_in_place
    from occframe.training.needs import check_needs
    from occframe.training.optimisers import build_optimiser
    from occframe.training.parts import apply_parts
    from occframe.training.recogniser import GradientStep, Recogniser, Term
    from occframe.training.run import synchronised, training_of
    from occframe.weights import load_weights

    config: TrainConfig = context.config
    device = context.device
    backbone = context.build.build(config.backbone)
    if config.weights is not None:
        load_weights(backbone, config.weights)
    if config.start is not None:
        begin_from(backbone, context.artefact(config.start).url)
    teacher = None
    if config.teacher is not None:
        teacher = load_model(context.artefact(config.teacher).url, context.build)
        _check_teacher(teacher, backbone)
    known = {"num_identities": len(classes), "embedding_dim": backbone.embedding_dim, "image_spec": backbone.image_spec}
    terms = [
        Term(name, block.weight, context.build.build(block, **known))
        for name, block in zip(_names(config.losses), config.losses, strict=True)
    ]
    where = {"device": device if config.augment_on == "device" else "cpu"}
    occlusion = context.build.build(config.occlusion, **known | where) if config.occlusion else None
    present = {"identities"}
    present |= {"landmarks"} if faces.landmarks is not None else set()
    present |= {"mask", "clean"} if occlusion else set()
    present |= {"teacher"} if teacher else set()
    check_needs(terms, present=present, backbone=backbone, backbone_name=config.backbone.use)

    loader = FaceLoader(
        faces,
        height=backbone.image_spec.height,
        width=backbone.image_spec.width,
        batch_size=batch_size,
        threads=config.threads or max(1, default_threads() // together.count),
        seed=context.seed,
        shuffle=True,
        images_per_identity=config.images_per_identity,
        flip=config.flip,
        grey=config.grey_probability,
        occlusion=occlusion,
        occlusion_probability=config.occlusion_probability,
        keep_clean=teacher is not None or any("clean" in term.module.needs for term in terms),
        classes=classes,
        drop_last=True,
        quarantine=quarantine,
        share=(together.rank, together.count),
        device=device,
        augment_on=config.augment_on,
    )

    precision = resolve_precision(config.precision, device)
    recogniser = Recogniser(
        backbone, terms, precision=precision, channels_last=config.channels_last, teacher=teacher
    ).to(device)
    recogniser = synchronised(recogniser, device, together)
    factors = apply_parts(recogniser, config.parts)
    recogniser.train()
    if config.compile:
        compile_in_place(device, backbone, *([occlusion] if config.augment_on == "device" else []))
    optimiser = build_optimiser(
        config.optimiser, recogniser.parameters(), factors=factors, scaled_gradients=precision == "fp16"
    )
    update = GradientStep(recogniser, optimiser, clip_norm=config.clip_norm, together=together)
    return training_of(
        context,
        loader,
        update,
        steps=loader.batches_per_epoch * config.epochs,
        lr=config.optimiser.lr,
        schedule=config.schedule,
        log_every=config.log_every,
        checkpoint_minutes=config.checkpoint_minutes,
        together=together,
    )


def _check_teacher(teacher: LoadedModel, backbone: Backbone) -> None:
    spec, seen = backbone.image_spec, teacher.image_spec
    theirs, ours = (seen.height, seen.width, teacher.embedding_dim), (spec.height, spec.width, backbone.embedding_dim)
    if theirs != ours:
        raise OccframeError(
            f"the teacher takes {theirs[0]} x {theirs[1]} images to {theirs[2]} dimensions, the backbone {ours[0]} x "
            f"{ours[1]} to {ours[2]}: it cannot teach it",
            remedy="use the model that the backbone begins with as its teacher",
        )


def _names(losses: Sequence[LossBlock]) -> list[str]:
    """Names to log losses by: their own, numbered where one is used twice."""
    plain = [block.use.rpartition(":")[2] for block in losses]
    seen = [plain[: number + 1].count(name) for number, name in enumerate(plain)]
    return [name if count == 1 else f"{name}-{count}" for name, count in zip(plain, seen, strict=True)]
