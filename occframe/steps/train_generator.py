"""Step ``train_generator``: an image-to-image network learns to undo something, such as glasses, against a judge."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from occframe.component import DataRef, GeneratorBlock, GeneratorRef, ModelRef, OcclusionBlock
from occframe.distributed import Ranks, ranks
from occframe.errors import OccframeError
from occframe.machine import default_threads
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe.training.adversarial_configs import (
    AdversarialError,
    FeatureError,
    IdentityError,
    PixelError,
    WearersError,
)
from occframe.training.optimisers import Adam
from occframe.training.schedules import LinearSchedule, Schedule

if TYPE_CHECKING:
    from occframe.data import FaceLoader, Quarantine
    from occframe.training.adversarial import AdversarialStep, Adversaries
    from occframe.training.adversarial_batches import BesideWearers, GeneratorBatch, PairedBatches, UnpairedBatches
    from occframe.training.frozen_features import FrozenFeatures
    from occframe.training.loop import Training
    from occframe.types import Dataset, OcclusionGenerator


_EMBEDDED_AT_ONCE = 64


class TrainGeneratorConfig(StepConfig):
    produces = "generator"

    generator: GeneratorBlock = Field(description="the network, which brings its discriminator")
    mode: Literal["paired", "unpaired"] = Field(
        "paired",
        description="paired: faces of `data` get an `occlusion`, which is to be undone; unpaired: faces of `data` show "
        "it already, those of `clean` do not",
    )
    data: DataRef = Field(description="the faces to learn from")
    occlusion: OcclusionBlock | None = Field(None, description="paired: what is put on and to be removed again")
    clean: DataRef | None = Field(None, description="unpaired: faces without, of whomever")
    recogniser: ModelRef | None = Field(None, description="F, the frozen recogniser of the feature error")
    start: GeneratorRef | None = Field(None, description="a generator of the same make-up whose weights to begin with")
    adversarial: AdversarialError = Field(AdversarialError(), description="the discriminator's part")
    feature: FeatureError = Field(FeatureError(), description="who it is stays: distance of the recogniser's features")
    pixel: PixelError = Field(PixelError(), description="what it looks like stays: distance of pixels")
    identity: IdentityError = Field(IdentityError(), description="faces that need nothing stay as they are")
    wearers: WearersError | None = Field(None, description="real wearers, to be seen by F as the people they are")
    iterations: int = Field(100_000, ge=1, description="updates of each network, after which training stops")
    batch_size: int = Field(16, ge=2, description="faces an update")
    optimiser: Adam = Field(Adam(), description="of both networks")
    schedule: Schedule = Field(LinearSchedule(), description="the learning rate over time")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the running mean of weights, which is what is kept")
    flip: bool = Field(True, description="mirror half of the images")
    camera_probability: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of images that go through a camera once more with what was put on them: tone, blur, coarse "
        "colours, JPEG, noise",
    )
    grey_probability: float = Field(0.0, ge=0, le=1, description="share of images that lose their colours")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="of the forward passes: auto, fp32 or bf16")
    compile: bool = Field(
        False,
        description="run both networks, and what occludes on the device, through torch.compile: minutes before the "
        "first update, faster ones after",
    )
    clip_norm: float | None = Field(None, gt=0, description="largest norm of each network's gradient")
    samples: int = Field(8, ge=0, le=32, description="faces in the sample pictures; 0 draws none")
    sample_every: int = Field(1000, ge=1, description="updates between two sample pictures")
    checkpoint_minutes: float = Field(10.0, gt=0, description="longest time between two checkpoints")
    log_every: int = Field(50, ge=1, description="updates between two lines of metrics.jsonl")
    threads: int | None = Field(
        None, ge=1, description="threads that decode and occlude; none: as many as cores, at most 16"
    )
    augment_on: Literal["workers", "device"] = Field(
        "workers",
        description="where faces are occluded, photographed and turned grey: in these threads, or on the device that "
        "trains; the pictures are the same",
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [
            {"occlusion": "glasses", "recogniser": "net"},
            {"mode": "unpaired", "clean": "bare", "recogniser": "net"},
        ]

    @model_validator(mode="after")
    def _what_the_mode_needs(self) -> Self:
        if (self.mode == "paired") != (self.occlusion is not None):
            raise ValueError("mode: paired needs an `occlusion` to put on; mode: unpaired takes none")
        if (self.mode == "unpaired") != (self.clean is not None):
            raise ValueError("mode: unpaired needs `clean`, faces without; mode: paired takes none")
        if self.feature.weight and self.recogniser is None:
            raise ValueError("the feature error needs a `recogniser`; without one write feature: {weight: 0}")
        if self.wearers is not None and self.recogniser is None:
            raise ValueError("`wearers` need a `recogniser`, which says who they are")
        return self


class TrainGeneratorStep:
    joint = True  # every process of a run takes its part of each batch

    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data import Quarantine
        from occframe.generators import save_generator
        from occframe.training.run import carry_out, seeded

        config: TrainGeneratorConfig = context.config
        together = ranks()
        quarantine = Quarantine()
        with seeded(context, "train"):
            training, networks = _assemble(context, quarantine, together)
            carry_out(context, training, config.batch_size)
        if not together.is_main:
            return StepOutcome()
        quarantine.tell(context.note, context.url)
        last = training.journal.last["steps"]
        losses = {name: last[name] for name in training.update.columns if name in last}
        whole = training.journal.whole
        meta = save_generator(
            context.url,
            networks.average,
            config.generator,
            extra={"mode": config.mode, "iterations": training.step, "losses": losses},
        )
        metrics = {**losses, **whole.figures(), "steps": float(training.step), "images": float(whole.images)}
        headline = (
            f"{context.name}: {training.step:,} updates, {config.mode}, loss {losses.get('loss', float('nan')):.3f}, "
            f"{metrics['images_per_s']:,.0f} images/s"
        )
        return StepOutcome(outputs={"": meta}, metrics=metrics, headlines=[headline])


def build(config: TrainGeneratorConfig, context: object) -> TrainGeneratorStep:
    return TrainGeneratorStep()


def _assemble(
    context: StepContext, quarantine: Quarantine, together: Ranks
) -> tuple[Training[AdversarialStep], Adversaries]:
    """Everything built, checked against each other and on the device, nothing trained yet."""
    from occframe.model_files import read_state
    from occframe.models import load_model
    from occframe.precision import resolve_precision
    from occframe.training.adversarial import AdversarialStep, Adversaries, stop_on_collapse
    from occframe.training.adversarial_watch import Watch
    from occframe.training.compiling import compile_in_place
    from occframe.training.frozen_features import FrozenFeatures
    from occframe.training.run import synchronised, training_of
    from occframe.weights import load_state_dict

    config: TrainGeneratorConfig = context.config
    device = context.device
    generator = context.build.build(config.generator)
    if config.start is not None:
        origin = context.artefact(config.start).url
        load_state_dict(generator, read_state(origin), origin=origin)
    networks = synchronised(Adversaries(generator, decay=config.ema).to(device), device, together).train()
    there = config.augment_on == "device"
    occlusion = None
    if config.occlusion is not None:
        where = device if there else "cpu"
        occlusion = context.build.build(config.occlusion, device=where, image_spec=generator.image_spec)
    if config.compile:
        compile_in_place(device, networks.generator, networks.discriminator, *([occlusion] if there else []))
    # Two optimisers and a gradient scaler do not go together: where bfloat16 is not native, float32 it is.
    resolved = resolve_precision(config.precision, device)
    precision = "fp32" if resolved == "fp16" else resolved
    features = None
    if config.recogniser is not None and (config.feature.weight or config.wearers):
        features = FrozenFeatures(load_model(context.artefact(config.recogniser).url, context.build), precision)
    update = AdversarialStep(
        networks,
        features,
        optimiser=config.optimiser,
        adversarial=config.adversarial,
        feature=config.feature,
        pixel=config.pixel,
        identity=config.identity,
        wearers=0.0 if config.wearers is None else config.wearers.weight,
        precision=precision,
        clip_norm=config.clip_norm,
        together=together,
    )
    batches, samples = _data(context, generator.image_spec, occlusion, quarantine, features, together)
    watch = Watch(context.url, networks, samples, every=config.sample_every, total_steps=config.iterations)
    training = training_of(
        context,
        batches,
        update,
        steps=config.iterations,
        lr=config.optimiser.lr,
        schedule=config.schedule,
        log_every=config.log_every,
        checkpoint_minutes=config.checkpoint_minutes,
        # The figures are alike in all processes: all of them stop at a collapse.
        watch=watch if together.is_main else partial(stop_on_collapse, total_steps=config.iterations),
        together=together,
    )
    return training, networks


def _data(
    context: StepContext,
    spec: Any,
    occlusion: OcclusionGenerator | None,
    quarantine: Quarantine,
    features: FrozenFeatures | None,
    together: Ranks,
) -> tuple[PairedBatches | UnpairedBatches | BesideWearers, GeneratorBatch | None]:
    """What is learnt from, and the same few faces for every sample picture, on the device."""
    from occframe.data import FaceLoader, Subset
    from occframe.training.adversarial_batches import BesideWearers, PairedBatches, UnpairedBatches, people_features
    from occframe.training.run import images_a_step

    config: TrainGeneratorConfig = context.config
    changed = {"camera": config.camera_probability, "grey": config.grey_probability}
    shuffled = {"shuffle": True, "flip": config.flip, "drop_last": True, "share": (together.rank, together.count)}

    def loader(faces: Dataset, batch_size: int, **options: Any) -> FaceLoader:
        return FaceLoader(
            faces,
            height=spec.height,
            width=spec.width,
            batch_size=batch_size,
            threads=config.threads or max(1, default_threads() // together.count),
            seed=context.seed,
            quarantine=quarantine,
            device=context.device,
            augment_on=config.augment_on,
            **options,
        )

    def batches(
        given: Dataset, real: Dataset | None, batch_size: int, **options: Any
    ) -> PairedBatches | UnpairedBatches:
        options |= changed
        if real is None:
            return PairedBatches(loader(given, batch_size, occlusion=occlusion, keep_clean=True, **options))
        return UnpairedBatches(loader(given, batch_size, **options), loader(real, batch_size, **options))

    given = context.dataset(config.data)
    real = None if config.clean is None else context.dataset(config.clean)
    fewest = min([len(given.ids), *([] if real is None else [len(real.ids)])])
    batch_size = images_a_step(context, config.batch_size, fewest, together)
    samples = None
    if config.samples and together.is_main:
        count = min(config.samples, len(given.ids))
        chosen = Subset(given, [place * len(given.ids) // count for place in range(count)])
        samples = next(batches(chosen, real, count).epoch(0))
    learnt = batches(given, real, batch_size, **shuffled)
    if config.wearers is None:
        return learnt, samples
    assert features is not None
    worn, bare, people = _of_the_same_people(context, config.wearers)
    wanted = people_features(loader(bare, _EMBEDDED_AT_ONCE, classes=people), features, len(people))
    wearers = loader(worn, config.wearers.batch_size, classes=people, **shuffled, **changed)
    return BesideWearers(learnt, wearers, wanted), samples


def _of_the_same_people(context: StepContext, wearers: WearersError) -> tuple[Dataset, Dataset, list[str]]:
    """Faces with and without of those who are in both data sets, and who they are."""
    from occframe.data import Subset

    both = [context.dataset(name) for name in (wearers.data, wearers.bare)]
    people = sorted(set.intersection(*(set(faces.subjects) for faces in both)))
    alone = len(set(both[0].subjects)) - len(people)
    if alone:
        context.note(f"{alone} people of {wearers.data} have no picture in {wearers.bare} and are left out")
    known = set(people)
    worn, bare = (
        Subset(faces, [row for row, person in enumerate(faces.subjects) if person in known]) for faces in both
    )
    if len(worn.ids) < wearers.batch_size:
        raise OccframeError(
            f"{wearers.data} has {len(worn.ids)} faces of people who are in {wearers.bare} too, fewer than "
            f"wearers.batch_size {wearers.batch_size}",
            remedy="give pictures of the same people, with and without, under the same identities; or lower the size",
        )
    return worn, bare, people
