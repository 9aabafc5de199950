"""A benchmark suite: systems × data × conditions × protocols, expanded into one pipeline.

Every cell is a step of that pipeline, so cells are cached, resumed and recomputed by the runner's own rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from occframe.component import BackboneBlock, Config, DataRef, FileRef, OcclusionBlock, ProtocolBlock
from occframe.config import DataBlock, Name, Pipeline, load_pipeline, problems_of
from occframe.errors import ConfigError, OccframeError, Problem
from occframe.plugins import PluginRegistry
from occframe.rundir import MANIFEST, canonical
from occframe.steps.sweep import at_value, point_name
from occframe.storage import exists, join, read_json
from occframe.yamlfile import YamlFile, dump_yaml, parse_yaml


class System(Config):
    """A recogniser under test: the finished step of a run, a network with its weights, or embeddings alone.

    ``backbone: {use: onnx, path: …}`` is any ONNX model or an InsightFace model folder, ``{use: callable, …}`` any
    Python function.
    """

    model: str | None = Field(None, description="RUN_DIR/STEP of a finished run")
    backbone: BackboneBlock | None = None
    weights: FileRef | None = Field(
        None, description="checkpoint for `backbone`: path, URL or registry:NAME; none: it brings its own"
    )
    galleries: dict[str, str] = Field(
        {},
        description="embeddings made elsewhere, instead of a network: gallery by data set, and by data set and "
        "condition: {lfw: FOLDER, lfw/masked: FOLDER}",
    )
    embed: dict[str, Any] = Field(
        {}, description="options of this system's embed steps, over the suite's: `removal: {generator: RUN_DIR/STEP}`"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum([self.model is not None, self.backbone is not None, bool(self.galleries)]) != 1:
            raise ValueError("a system is one of `model: RUN_DIR/STEP`, `backbone` (with `weights`) and `galleries`")
        if self.weights is not None and self.backbone is None:
            raise ValueError("`weights` are of a `backbone`")
        return self


class SuiteSweep(Config):
    """Conditions that differ in how much is hidden: `NAME-0_2`, `NAME-0_4`, …, and a curve over it in the report."""

    occlusion: OcclusionBlock
    axis: str = Field("severity", description="the generator's option that is swept")
    values: list[float] = Field([0.2, 0.4, 0.6, 0.8, 1.0], min_length=2, max_length=50)

    def points(self, name: str) -> dict[str, float]:
        return {point_name(name, value): value for value in self.values}


class Trial(Config):
    """What is measured: probes against the reference, or against the clean probes where there is no `reference`."""

    data: DataRef = Field(description="probes: a data set or a part of it")
    reference: DataRef | None = Field(None, description="enrolled faces")
    distractors: DataRef | None = Field(None, description="other people, enrolled besides where the protocol asks")
    conditions: list[Name] | None = Field(None, min_length=1, description="some of the suite's; none: all of them")
    protocol: ProtocolBlock


class SuiteConfig(Config):
    version: Literal[1] = Field(1, description="format of this file")
    name: Name
    run_dir: str = Field(description="where cells are kept, so that a second run computes only what changed")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: str = "auto"
    plugins: list[str] = Field([])
    data: dict[Name, DataBlock] = Field(min_length=1)
    systems: dict[Name, System] = Field(min_length=1)
    conditions: dict[Name, OcclusionBlock | None] = Field(
        {"clean": None}, min_length=1, description="occlusion of the probes by name; null leaves them clean"
    )
    sweeps: dict[Name, SuiteSweep] = Field({}, description="further conditions, of rising severity")
    trials: dict[Name, Trial] = Field(min_length=1)
    embed: dict[str, Any] = Field({}, description="options of every embed step, e.g. flip, batch_size, precision")

    @model_validator(mode="after")
    def _conditions_exist(self) -> Self:
        known = self.all_conditions
        for name, trial in self.trials.items():
            if unknown := sorted(set(trial.conditions or ()) - known.keys()):
                raise ValueError(f"trial `{name}` names the condition `{unknown[0]}`; there are: {', '.join(known)}")
        return self

    @property
    def all_conditions(self) -> dict[str, tuple[OcclusionBlock | None, str, float]]:
        """Occlusion by condition, with the option that a sweep sets and its value ("" where none does)."""
        known: dict[str, tuple[OcclusionBlock | None, str, float]] = {
            name: (block, "", 0.0) for name, block in self.conditions.items()
        }
        for name, sweep in self.sweeps.items():
            known |= {point: (sweep.occlusion, sweep.axis, value) for point, value in sweep.points(name).items()}
        return known

    def conditions_of(self, trial: str) -> list[str]:
        return list(self.trials[trial].conditions or self.all_conditions)


def load_suite(file: YamlFile, registry: PluginRegistry, further: Sequence[str] = ()) -> SuiteConfig:
    """further: systems besides, each ``NAME=RUN_DIR/STEP``, or ``NAME=RUN_DIR`` where one step made a model.

    Raises ConfigError with every problem, OccframeError for a wrong one of ``further``.
    """
    if not isinstance(file.value, dict):
        raise ConfigError([Problem(file.where(()), "", "a suite is a mapping with `systems`, `data` and `trials`")])
    for text in further:
        _add_system(file.value, text)
    try:
        return SuiteConfig.model_validate(file.value, context={"registry": registry})
    except ValidationError as error:
        raise ConfigError(problems_of(error, file.value, file)) from None


def _add_system(raw: dict[str, Any], text: str) -> None:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise OccframeError(f"`{text}` is not NAME=PATH", remedy="write it as in --system ours=runs/ours/recogniser")
    systems = raw.setdefault("systems", {})
    if not isinstance(systems, dict):
        return  # which the suite's own model reports
    if name in systems:
        raise OccframeError(f"the suite has a system `{name}` already", remedy="call the other one otherwise")
    systems[name] = {"model": _model_of(path)}


def _model_of(path: str) -> str:
    """A run's directory stands for the only step of it that made a model."""
    manifest = join(path, MANIFEST)
    if not exists(manifest):
        return path
    made = [
        name
        for name, step in read_json(manifest)["steps"].items()
        if step["status"] == "done" and any(output["kind"] == "model" for output in step["outputs"].values())
    ]
    if len(made) != 1:
        listed = f"they are {', '.join(made)}: name one, as in {join(path, made[-1])}" if made else "run it first"
        raise OccframeError(f"{len(made)} steps of the run {path} have made a model", remedy=listed)
    return join(path, made[0])


def expand(suite: SuiteConfig, name: str, registry: PluginRegistry) -> Pipeline:
    """The pipeline that computes every cell of the suite; ``evaluation_step`` names the step of a cell."""
    flat = suite.model_dump(mode="json")
    covers = {name: _cover(*found, registry) for name, found in suite.all_conditions.items()}
    steps = [step for system in suite.systems for step in _steps_of(system, suite, flat, covers)]
    raw = {key: flat[key] for key in ("name", "run_dir", "seed", "device", "data")} | {"steps": steps}
    return load_pipeline(parse_yaml(dump_yaml(raw), f"{name} (expanded)"), registry)


def evaluation_step(system: str, trial: str) -> str:
    return f"evaluate-{system}-{trial}"


def _cover(block: OcclusionBlock | None, axis: str, value: float, registry: PluginRegistry) -> dict[str, Any] | None:
    """The block of one condition, written out in full."""
    if block is None:
        return None
    swept = at_value(block, axis, value, {"registry": registry}) if axis else block
    return swept.model_dump(mode="json")


def _embedding_step(system: str, data: str, occlusion: Mapping[str, Any] | None) -> str:
    """The embed step of some faces, covered or not. occlusion: the block, validated and written out in full.

    Named by what it is: `faces.test` cannot meet `faces-test`, and a new condition moves no other cell.
    """
    return f"embed-{system}-{hashlib.sha256(canonical([data, occlusion])).hexdigest()[:10]}"


def _steps_of(
    system: str, suite: SuiteConfig, flat: Mapping[str, Any], covers: Mapping[str, dict[str, Any] | None]
) -> Iterator[dict[str, Any]]:
    chosen = suite.systems[system]
    model = chosen.model or f"model-{system}"
    if chosen.backbone:
        written = flat["systems"][system]
        yield {"use": "pretrained", "name": model, "backbone": written["backbone"], "weights": written["weights"]}
    embedded: dict[str, dict[str, Any]] = {}

    def embedding(data: str, condition: str | None) -> str:
        occlusion = covers[condition] if condition else None
        name = _embedding_step(system, data, occlusion)
        if chosen.galleries:
            key = data if occlusion is None else f"{data}/{condition}"
            if key not in chosen.galleries:
                raise OccframeError(
                    f"system `{system}` has no gallery of {key}",
                    remedy="name it under `galleries`, or leave the condition out with `conditions` of the trial",
                )
            embedded[name] = {"use": "gallery", "name": name, "url": chosen.galleries[key]}
        else:
            step = {"use": "embed", "name": name, "model": model, "data": str(data), "occlusion": occlusion}
            embedded[name] = suite.embed | chosen.embed | step
        return name

    evaluations = []
    for trial_name, trial in suite.trials.items():
        conditions = suite.conditions_of(trial_name)
        sweeps = {
            name: {"axis": sweep.axis, "points": sweep.points(name)}
            for name, sweep in suite.sweeps.items()
            if set(sweep.points(name)) <= set(conditions)
        }
        evaluations.append(
            {
                "use": "evaluate",
                "name": evaluation_step(system, trial_name),
                "reference": embedding(trial.reference or trial.data, None),
                "probes": {condition: embedding(trial.data, condition) for condition in conditions},
                "distractors": embedding(trial.distractors, None) if trial.distractors else None,
                "sweeps": sweeps,
                "protocols": [flat["trials"][trial_name]["protocol"]],
            }
        )
    yield from embedded.values()
    yield from evaluations
