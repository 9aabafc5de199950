"""Running a pipeline: plan, then for each step skip or run, then report."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.console import Console

from occframe import distributed
from occframe.component import BuildContext, ComponentBlock, DataRef, FileRef, Reference, walk
from occframe.config import Pipeline, StepBlock
from occframe.engine import InProcess
from occframe.errors import Interrupted, OccframeError
from occframe.machine import resolve_device
from occframe.plugins import PluginRegistry
from occframe.progress import show_progress
from occframe.random import derive_seed
from occframe.rundir import RunDir, StepRecord, canonical, environment, now
from occframe.step import Artefact, Progress, StepOutcome
from occframe.stopping import stop_on_signal
from occframe.storage import exists, join, read_json, write_bytes
from occframe.tracking import Tracking
from occframe.types import RunFacts
from occframe.yamlfile import dump_yaml

if TYPE_CHECKING:
    from occframe.types import Dataset, Engine, Tracker


@dataclass(frozen=True)
class PlannedStep:
    """action: "skip" (done, nothing changed), "run", or "resume" (interrupted with the same inputs). why: in words."""

    name: str
    use: str
    action: str
    why: str
    fingerprint: str


@dataclass
class RunResult:
    """headlines: of all steps, in order. steps: records by name."""

    url: str
    steps: Mapping[str, StepRecord]
    headlines: list[str] = field(default_factory=list)


class Runner:
    """One pipeline in one run directory."""

    def __init__(
        self, pipeline: Pipeline, registry: PluginRegistry, console: Console, *, profile: bool = False
    ) -> None:
        self.pipeline = pipeline
        self.registry = registry
        self.console = console
        self.profile = profile
        self.run_dir = RunDir(pipeline.config.run_dir)
        self.tracking = Tracking(self._say)
        self._datasets: dict[str, Dataset] = {}
        self._stop = threading.Event()

    # --- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, *, start: str | None = None, only: str | None = None) -> list[PlannedStep]:
        """What ``run`` would do. start: redo from this step on. only: redo this step and nothing else.

        Raises OccframeError: an unknown step, or a step named by ``only`` whose inputs were never made.
        """
        names = list(self.pipeline.steps)
        for chosen in (start, only):
            if chosen is not None and chosen not in names:
                raise OccframeError(f"no step is called `{chosen}`", remedy=f"there are: {', '.join(names)}")
        planned: dict[str, PlannedStep] = {}
        for number, (name, block) in enumerate(self.pipeline.steps.items()):
            fingerprint = self._fingerprint(name, block, planned)
            forced = name == only or (start is not None and number >= names.index(start))
            action, why = self._decide(name, fingerprint, forced)
            if only is not None and name != only:
                action, why = ("skip", "not chosen by --only")
                # What goes into the chosen step is what lies on disk: as recorded, not as the file now asks for.
                if name in self.run_dir.steps:
                    fingerprint = self.run_dir.steps[name].fingerprint
            elif anew := [head for head in self.needs(name) if planned[head].action != "skip"]:
                action, why = ("run", f"`{anew[0]}` is made anew")
            planned[name] = PlannedStep(name, block.use, action, why, fingerprint)
        if only is not None:
            self._check_inputs_exist(only)
        return list(planned.values())

    def needs(self, name: str) -> list[str]:
        """The steps of this pipeline that step ``name`` refers to."""
        heads = dict.fromkeys(reference.head for reference in self.pipeline.references(name))
        return [head for head in heads if head in self.pipeline.steps]

    def _decide(self, name: str, fingerprint: str, forced: bool) -> tuple[str, str]:
        record = self.run_dir.steps.get(name)
        if record is None:
            return "run", "not run yet"
        if forced:
            return "run", "asked for"
        if record.fingerprint != fingerprint:
            return "run", "its configuration or inputs changed"
        if record.status == "done":
            if not exists(self.run_dir.step_url(name)):
                return "run", "its directory is gone"
            return "skip", "done, nothing changed"
        return "resume", f"{record.status} before, with the same inputs"

    def _fingerprint(self, name: str, block: StepBlock, planned: Mapping[str, PlannedStep]) -> str:
        """Of everything the result of a step depends on."""
        from occframe.data.stamps import content_stamp

        inputs: dict[str, Any] = {}
        for reference in self.pipeline.references(name):
            if reference.is_external:
                inputs[reference] = self._external(reference).meta
            elif reference.head in planned:
                inputs[reference] = planned[reference.head].fingerprint
            else:
                data = self.pipeline.config.data[reference.head]
                splits = data.model_dump(mode="json").get("splits")
                inputs[reference] = [self._source(reference.head).fingerprint(), splits, self._components(data)]
        options = block.config.model_dump(mode="json")
        files = {str(item): content_stamp(item) for item in walk(block.config) if isinstance(item, FileRef)}
        parts = [self._components(block), options, files, inputs, self.pipeline.config.seed]
        return hashlib.sha256(canonical(parts)).hexdigest()[:32]

    def _components(self, block: ComponentBlock) -> list[list[str]]:
        """Name and version of every component that a block builds, itself first."""
        named = [item for item in walk(block) if isinstance(item, ComponentBlock)]
        found = [self.registry.find(item.kind, item.use) for item in named]
        return [[item.kind, item.qualified_name, item.version] for item in found]

    def _check_inputs_exist(self, name: str) -> None:
        for reference in self.pipeline.references(name):
            record = self.run_dir.steps.get(reference.head)
            if reference.head in self.pipeline.steps and not (record and record.status == "done"):
                raise OccframeError(
                    f"step `{name}` needs `{reference}`, which is not made yet", remedy="run without --only"
                )

    # --- run ----------------------------------------------------------------------------------------------------------

    def run(self, *, start: str | None = None, only: str | None = None, processes: int = 1) -> RunResult:
        """Do what the plan says. Raises Interrupted after Ctrl-C, OccframeError from a step; what is done stays.

        processes: as many steps at once, each in a process of its own, where what they need is made; with 1 all run in
        this process.
        """
        with distributed.joined() as ranks:
            if ranks.is_main:
                try:
                    self._lead(start, only, processes)
                except Interrupted:
                    distributed.tell(None)  # the others wait for the next step
                    raise
                distributed.tell(None)
            else:
                self._follow()
        chosen = {name: self.run_dir.steps[name] for name in self.pipeline.steps if name in self.run_dir.steps}
        return RunResult(self.run_dir.url, chosen, [line for record in chosen.values() for line in record.headlines])

    def _lead(self, start: str | None, only: str | None, processes: int) -> None:
        with self.run_dir.lock(), stop_on_signal(self._stop, self.console):
            plan = self.plan(start=start, only=only)
            self._describe_run()
            with closing(self.engine), self.tracking.of(self._trackers(), self._run_facts()):
                if processes > 1:
                    self._run_side_by_side(plan, processes)
                else:
                    for step in plan:
                        if step.action == "skip":
                            self._skip(step)
                        else:
                            self._run_step(step)

    def _run_side_by_side(self, plan: Sequence[PlannedStep], processes: int) -> None:
        from occframe.parallel import run_steps

        for step in plan:
            if step.action == "skip":
                self._skip(step)
        if todo := [step for step in plan if step.action != "skip"]:
            run_steps(self, todo, processes)

    def _skip(self, step: PlannedStep) -> None:
        self.console.print(f"[dim]- {step.name}: skipped ({step.why})[/]")

    def _follow(self) -> None:
        """Of several processes all but the first: take part in the steps that are made for several, in silence."""
        self.console.quiet = True
        with stop_on_signal(self._stop, self.console):
            while (name := self._next_step()) is not None:
                block = self.pipeline.steps[name]
                self.run_dir = RunDir(self.pipeline.config.run_dir)  # as process 0 left it
                context = RunningStep(self, name, block, self.run_dir.step_url(name))
                step = context.build.build(block)
                if getattr(step, "joint", False):
                    with suppress(Interrupted):  # process 0 says it
                        step.run(context)

    def _next_step(self) -> str | None:
        """The name of the step that process 0 is about to run; None once it is done, or gone."""
        try:
            return distributed.tell("")
        except RuntimeError:  # it has said why
            return None

    def _describe_run(self) -> None:
        config = self.pipeline.config
        plugins = [f"{record.label}: {record.status}" for record in self.registry.records]
        resolved = config.model_dump(mode="json")
        self.run_dir.info = {
            "name": config.name,
            "source": self.pipeline.source.name,
            "seed": config.seed,
            "config": resolved,
            "started": now(),
            "plugins": plugins,
            "data": {name: dataset.fingerprint() for name, dataset in self._datasets.items() if "." not in name},
        } | environment()
        self.run_dir.save()
        write_bytes(join(self.run_dir.url, "pipeline.resolved.yaml"), dump_yaml(resolved).encode())

    def _run_facts(self) -> RunFacts:
        config = self.pipeline.config
        return RunFacts(config.name, self.run_dir.url, config.seed, self.run_dir.info["config"])

    def _trackers(self) -> dict[str, Tracker]:
        blocks = self.pipeline.config.trackers
        return {block.use: self.build_context(block.use).build(block) for block in blocks}

    def _say(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False, highlight=False)

    @property
    def stopping(self) -> bool:
        """The user asked for it: no further step is begun."""
        return self._stop.is_set()

    def _run_step(self, step: PlannedStep) -> None:
        block = self.pipeline.steps[step.name]
        context = RunningStep(self, step.name, block, self.begin(step))
        began, worked = time.monotonic(), time.process_time()
        distributed.tell(step.name)
        try:
            outcome = context.build.build(block).run(context)
            seconds, cpu_seconds = time.monotonic() - began, time.process_time() - worked
            self.finish(step, outcome, context.notes, seconds=seconds, cpu_seconds=cpu_seconds)
            if self.stopping:
                # A step that finished before it saw the request is done; the run stops behind it.
                raise Interrupted("stopped", remedy="run the same command again to go on")
        except BaseException as error:
            if told := self.ended_by(step, error, time.monotonic() - began):
                raise told from error
            raise

    def begin(self, step: PlannedStep) -> str:
        """Record that a step runs. Returns its directory."""
        why = f" [dim]({step.why})[/]" if step.action == "resume" else ""
        self.console.print(f"[bold]- {step.name}[/]{why}", highlight=False)
        self._mark_stale(step.name)
        url = self.run_dir.fresh_step_dir(step.name, keep=step.action == "resume")
        self.run_dir.record(step.name, StepRecord(step.use, "running", step.fingerprint, now()))
        return url

    def _mark_stale(self, name: str) -> None:
        """What was made from an earlier result of this step is no longer what a record says it is."""
        stale = {name}
        for other in self.pipeline.steps:
            if stale & set(self.needs(other)):
                stale.add(other)
                if other in self.run_dir.steps:
                    self.run_dir.change(other, fingerprint="")

    def finish(
        self, step: PlannedStep, outcome: StepOutcome, notes: Sequence[str], *, seconds: float, cpu_seconds: float
    ) -> None:
        """Record what a step made. Raises OccframeError: that is not what it declares, or no plain JSON."""
        block = self.pipeline.steps[step.name]
        kinds = block.config.outputs()
        if set(outcome.outputs) != set(kinds):
            raise OccframeError(
                f"step `{step.name}` declares the outputs {sorted(kinds)} and returned {sorted(outcome.outputs)}",
                remedy=f"report this to the authors of {block.owner}",
            )
        try:
            json.dumps([dict(outcome.outputs), dict(outcome.metrics), list(outcome.headlines)], default=_refuse)
        except TypeError as error:
            raise OccframeError(
                f"step `{step.name}` returned what is no plain JSON: {error}",
                remedy=f"report this to the authors of {block.owner}",
            ) from error
        self.run_dir.change(
            step.name,
            status="done",
            seconds=round(seconds, 3),
            cpu_seconds=round(cpu_seconds, 3),
            outputs={part: {"kind": kinds[part], "meta": dict(meta)} for part, meta in outcome.outputs.items()},
            metrics={key: value if math.isfinite(value) else None for key, value in outcome.metrics.items()},
            headlines=tuple(outcome.headlines),
            notes=tuple(notes),
        )
        if outcome.metrics:
            self.tracking.figures(step.name, outcome.metrics, None)

    def ended_by(self, step: PlannedStep, error: BaseException, seconds: float) -> OccframeError | None:
        """Record what ended a step. Returns what to say of it; None: the error says it itself."""
        if isinstance(error, Interrupted) or not isinstance(error, Exception):
            if self.run_dir.steps[step.name].status == "running":
                self.run_dir.change(step.name, status="interrupted", seconds=seconds)
            return None
        # A full disk fails here too: the step's own error says more than this one would.
        with suppress(OccframeError):
            self.run_dir.change(step.name, status="failed", seconds=seconds, error=f"{type(error).__name__}: {error}")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return OccframeError(
                f"step `{step.name}` cannot write to {self.run_dir.step_url(step.name)}: {error.strerror}",
                remedy="free some space or choose another run_dir; what is done is kept, run again to go on",
            )
        return None

    # --- what references name -----------------------------------------------------------------------------------------

    def _source(self, name: str) -> Dataset:
        """A data set of the ``data`` section, whole."""
        if name not in self._datasets:
            block = self.pipeline.config.data[name]
            self._datasets[name] = self.build_context(name).build(block)
        return self._datasets[name]

    def dataset(self, reference: Reference | str) -> Dataset:
        from occframe.data import ParquetFaces, apply_split
        from occframe.data.splits import SplitPart

        reference = DataRef(reference)
        if reference in self._datasets:
            return self._datasets[reference]
        if reference.head in self.pipeline.config.data:
            whole = self._source(reference.head)
            splits: Mapping[str, SplitPart] = self.pipeline.config.data[reference.head].splits
        else:
            made = self.artefact(DataRef(reference.head))
            whole = ParquetFaces(join(made.url, "faces.parquet"))
            splits = {key: SplitPart.model_validate(value) for key, value in made.meta.get("splits", {}).items()}
        seed = derive_seed(self.pipeline.config.seed, "split")
        chosen = apply_split(whole, splits, reference.part, seed) if reference.part else whole
        self._datasets[reference] = chosen
        return chosen

    def artefact(self, reference: Reference | str) -> Artefact:
        reference = reference if isinstance(reference, Reference) else Reference(reference)
        if reference.is_external:
            return self._external(reference)
        record = self.run_dir.steps.get(reference.head)
        if record is None or record.status != "done" or reference.part not in record.outputs:
            raise OccframeError(f"`{reference}` is not made yet", remedy=f"run step `{reference.head}` first")
        output = record.outputs[reference.part]
        return Artefact(reference, output["kind"], self.run_dir.step_url(reference.head), output["meta"])

    def _external(self, reference: Reference) -> Artefact:
        """The output of a step of another run: ``RUN_DIR/STEP`` or ``RUN_DIR/STEP.PART``."""
        url, _, name = reference.head.rpartition("/")
        manifest = join(url, "manifest.json")
        record = read_json(manifest)["steps"].get(name) if exists(manifest) else None
        if record is None or record["status"] != "done" or reference.part not in record["outputs"]:
            raise OccframeError(f"{reference} is not the finished step of a run", remedy="name RUN_DIR/STEP")
        output = record["outputs"][reference.part]
        kind = getattr(reference, "kind", output["kind"])
        if output["kind"] != kind:
            raise OccframeError(f"{reference} is of kind {output['kind']}, this needs {kind}")
        return Artefact(reference, output["kind"], reference.head, output["meta"] | {"of": record["fingerprint"]})

    def build_context(self, name: str) -> BuildContext:
        return BuildContext(self.registry, self.device, derive_seed(self.pipeline.config.seed, name))

    @cached_property
    def engine(self) -> Engine:
        block = self.pipeline.config.engine
        if not block.use:
            return InProcess()
        engine: Engine = self.build_context(block.use).build(block)
        return engine

    @property
    def device(self) -> str:
        device, ranks = resolve_device(self.pipeline.config.device), distributed.ranks()
        return f"cuda:{ranks.local}" if ranks.several and device == "cuda" else device


class RunningStep:
    """The StepContext a step is given."""

    def __init__(self, runner: Runner, name: str, block: StepBlock, url: str) -> None:
        self._runner = runner
        self.name = name
        self.config = block.config
        self.url = url
        self.notes: list[str] = []
        self.build = runner.build_context(name)
        self.seed = self.build.seed
        self.device = self.build.device
        self.profile = runner.profile

    def dataset(self, reference: Reference | str) -> Dataset:
        dataset = self._runner.dataset(reference)
        for text in getattr(dataset, "notes", ()):
            self.note(f"`{reference}`: {text}")
        return dataset

    def artefact(self, reference: Reference | str) -> Artefact:
        return self._runner.artefact(reference)

    @property
    def engine(self) -> Engine:
        return self._runner.engine

    def progress(self, description: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        return show_progress(description, total, unit, console=self._runner.console)

    def track(self, figures: Mapping[str, float], step: int) -> None:
        self._runner.tracking.figures(self.name, figures, step)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._runner._say(text)

    @property
    def stop_requested(self) -> Callable[[], bool]:
        return self._runner._stop.is_set

    @property
    def run_info(self) -> Mapping[str, Any]:
        return self._runner.run_dir.info


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r} is a {type(value).__name__}")
