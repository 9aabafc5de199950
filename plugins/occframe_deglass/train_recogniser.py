"""Step ``train_glasses_recogniser``: who wears glasses, learnt from an attribute of real faces and from synthetic ones.

Identities are divided: most teach, some set the temperature of the probabilities, some only measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from occframe.errors import OccframeError
from occframe.machine import default_threads
from occframe.step import StepConfig, StepContext, StepOutcome
from occframe_deglass.recogniser_configs import TrainGlassesRecogniserConfig

if TYPE_CHECKING:
    import numpy as np

    from occframe.component import BuildContext
    from occframe.data import FaceLoader, Quarantine
    from occframe.training.loop import Training
    from occframe.types import Dataset
    from occframe_deglass.recogniser import GlassesRecogniser


class TrainGlassesRecogniserStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.data import Quarantine
        from occframe.models import save_model
        from occframe.storage import join, write_json
        from occframe.training.run import carry_out, seeded

        config: TrainGlassesRecogniserConfig = context.config
        quarantine = Quarantine()
        with seeded(context, "recogniser"):
            learning = _Learning(context, quarantine)
            carry_out(context, learning.training(), config.batch_size)
        temperature, bias = learning.calibrate()
        measured = learning.measure(temperature, bias)
        quarantine.tell(context.note, context.url)
        write_json(join(context.url, "parts.json"), learning.ids())
        calibration = {"temperature": temperature, "bias": bias}
        extra = {**calibration, "measured": measured}
        meta = save_model(context.url, learning.recogniser, config.backbone, extra=extra)
        metrics = {f"{part}.{name}": value for part, found in measured.items() for name, value in found.items()}
        return StepOutcome(
            outputs={"": meta}, metrics=metrics | calibration, headlines=list(_headlines(context.name, measured))
        )


def build(config: StepConfig, context: BuildContext) -> TrainGlassesRecogniserStep:
    return TrainGlassesRecogniserStep()


class _Learning:
    """The parts of one training, built and checked."""

    def __init__(self, context: StepContext, quarantine: Quarantine) -> None:
        import numpy as np

        from occframe.data.splits import SplitPart, split_rows
        from occframe.models import begin_from
        from occframe_deglass.recogniser import GlassesRecogniser
        from occframe_deglass.recogniser_data import kinds_of_glasses

        self.context = context
        self.config: TrainGlassesRecogniserConfig = context.config
        self.quarantine = quarantine
        self.faces: Dataset = context.dataset(self.config.data)
        if not self.faces.aligned:
            context.note(f"the faces of `{self.config.data}` are not aligned; put an `align` step before this one")
        recogniser = context.build.build(self.config.backbone)
        if not isinstance(recogniser, GlassesRecogniser):
            raise OccframeError(
                f"`{self.config.backbone.use}` is no glasses recogniser", remedy="write `backbone: glasses-recogniser`"
            )
        if self.config.start is not None:
            begin_from(recogniser, context.artefact(self.config.start).url)
        elif self.config.backbone.config.trunk is not None:
            context.note("the trunk begins at random; name the model that it is of as `start`")
        self.recogniser: GlassesRecogniser = recogniser.to(context.device)
        self.kinds: np.ndarray = kinds_of_glasses(self.faces, self.config.attribute, self.config.darkness)
        parts = {"calibrate": SplitPart(identities=self.config.calibrate), "train": SplitPart(identities="rest")}
        if self.config.test:
            parts["test"] = SplitPart(identities=self.config.test)
        rows = split_rows(self.faces.subjects, self.faces.ids, parts, context.seed)
        self.rows = {part: found[self.kinds[found] >= 0] for part, found in rows.items()}
        if not np.any(self.kinds[self.rows["train"]] == 0):
            raise OccframeError(
                f"nobody in `{self.config.data}` is without glasses", remedy="give it faces of both kinds"
            )

    def ids(self) -> dict[str, list[str]]:
        """Which faces were used for what."""
        return {part: [self.faces.ids[row] for row in rows] for part, rows in self.rows.items()}

    def training(self) -> Training[Any]:
        from occframe.precision import resolve_precision
        from occframe.training.optimisers import AdamW, build_optimiser
        from occframe.training.parts import apply_parts
        from occframe.training.recogniser import Recogniser
        from occframe.training.run import training_of
        from occframe.training.schedules import CosineSchedule
        from occframe_deglass.recogniser_data import GlassesBatches, subset
        from occframe_deglass.recogniser_training import RecogniserUpdate

        context, config = self.context, self.config
        rows = self.rows["train"]
        worn = subset(self.faces, rows, self.kinds > 0)
        bare = subset(self.faces, rows, self.kinds == 0)
        share = config.batch_size // 4 if len(worn.ids) else 0
        batches = GlassesBatches(
            self._loader(bare, config.batch_size - share, glasses=True, learning=True),
            self._loader(worn, min(share, len(worn.ids)), glasses=False, learning=True) if share else None,
            self.kinds[worn.rows],
            config.hidden,
        )
        if not share:
            context.note("nobody in the training faces wears real glasses: only synthetic ones are learnt")
        precision = resolve_precision(config.precision, context.device)
        recogniser = Recogniser(self.recogniser, [], precision=precision, channels_last=True)
        factors = apply_parts(recogniser, config.parts)
        settings = AdamW(lr=config.lr, weight_decay=config.weight_decay, decay_norm_and_bias=False)
        optimiser = build_optimiser(settings, recogniser.parameters(), factors=factors)
        update = RecogniserUpdate(recogniser.train(), optimiser)
        return training_of(
            context,
            batches,
            update,
            steps=batches.batches_per_epoch * config.epochs,
            lr=config.lr,
            schedule=CosineSchedule(warmup_epochs=min(1.0, config.epochs / 4)),
            log_every=20,
            checkpoint_minutes=config.checkpoint_minutes,
        )

    def _loader(
        self, faces: Dataset, batch_size: int, *, glasses: bool, learning: bool = False, grey: float = 0.0
    ) -> FaceLoader:
        from occframe.data import FaceLoader

        config, spec = self.config, self.recogniser.image_spec
        occlusion = None
        if glasses:
            occlusion = self.context.build.build(config.occlusion, image_spec=spec, device="cpu")
        return FaceLoader(
            faces,
            height=spec.height,
            width=spec.width,
            batch_size=min(batch_size, len(faces.ids)),
            threads=config.threads or default_threads(),
            seed=self.context.seed,
            shuffle=learning,
            flip=learning,
            grey=config.grey if learning else grey,
            occlusion=occlusion,
            occlusion_probability=config.synthetic if learning else 0.5,
            drop_last=learning,
            quarantine=self.quarantine,
        )

    def calibrate(self) -> tuple[float, float]:
        """Fit temperature and bias on faces that were not learnt from; with synthetic glasses on half of them where
        nobody wears real ones."""
        import numpy as np

        from occframe_deglass.calibration import fit_calibration

        self.recogniser.eval()
        real = bool(np.any(self.kinds[self.rows["calibrate"]] > 0))
        answers = self._answers("calibrate", synthetic=not real)
        temperature, bias = fit_calibration(answers.logits, answers.kinds)
        self.recogniser.temperature.fill_(temperature)
        self.recogniser.bias.fill_(bias)
        return temperature, bias

    def measure(self, temperature: float, bias: float) -> dict[str, dict[str, float]]:
        """Figures on the test identities: as they are, without colours, and with synthetic glasses on half of those
        without glasses."""
        if not self.config.test:
            return {}
        found = {"synthetic": self._answers("test", synthetic=True).figures(temperature, bias)}
        if self.config.attribute is not None:
            real = {"real": self._answers("test"), "grey": self._answers("test", grey=1.0)}
            found = {part: answers.figures(temperature, bias) for part, answers in real.items()} | found
        return found

    def _answers(self, part: str, *, synthetic: bool = False, grey: float = 0.0) -> Any:
        import numpy as np

        from occframe_deglass.recogniser_data import load_known, subset
        from occframe_deglass.recogniser_training import Answers

        chosen = self.kinds == 0 if synthetic else np.ones(len(self.kinds), bool)
        faces = subset(self.faces, self.rows[part], chosen)
        if not faces.ids:
            raise OccframeError(
                f"the {part} part of `{self.config.data}` has no face without glasses",
                remedy=f"give {part} a larger share",
            )
        loader = self._loader(faces, 64, glasses=synthetic, grey=grey)
        batches = load_known(loader, self.kinds[faces.rows], self.config.hidden if synthetic else None)
        return Answers.of(self.recogniser, batches, self.context.device)


def _headlines(name: str, measured: Mapping[str, Mapping[str, float]]) -> Any:
    for part, figures in measured.items():
        yield (
            f"{name}, {part}: F1 {figures['f1']:.3f} over {figures['faces']:,.0f} faces of people it never saw, "
            f"{figures['wearers']:,.0f} with glasses; calibration error {figures['ece']:.3f}"
        )
