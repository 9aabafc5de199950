"""A benchmark suite: systems × data × conditions × protocols, expanded into one pipeline.

Every cell is a step of that pipeline, so cells are cached, resumed and recomputed by the runner's own rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from occframe.component import BackboneBlock, Config, DataRef, OcclusionBlock, ProtocolBlock
from occframe.config import DataBlock, Name, Pipeline, load_pipeline, problems_of
from occframe.errors import ConfigError, Problem
from occframe.plugins import PluginRegistry
from occframe.rundir import canonical
from occframe.yamlfile import YamlFile, dump_yaml, parse_yaml


class System(Config):
    """A recogniser under test: the finished step of a run, or a network with its weights."""

    model: str | None = Field(None, description="RUN_DIR/STEP of a finished run")
    backbone: BackboneBlock | None = None
    weights: str | None = Field(None, description="checkpoint for `backbone`: path, URL or registry:NAME")
    embed: dict[str, Any] = Field(
        {}, description="options of this system's embed steps, over the suite's: `removal: {generator: RUN_DIR/STEP}`"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.backbone is None) or (self.backbone is None) != (self.weights is None):
            raise ValueError("a system is either `model: RUN_DIR/STEP` or `backbone` with `weights`")
        return self


class Trial(Config):
    """What is measured: probes against the reference, or against the clean probes where there is no `reference`."""

    data: DataRef = Field(description="probes: a data set or a part of it")
    reference: DataRef | None = Field(None, description="enrolled faces")
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
    trials: dict[Name, Trial] = Field(min_length=1)
    embed: dict[str, Any] = Field({}, description="options of every embed step, e.g. flip, batch_size, precision")


def load_suite(file: YamlFile, registry: PluginRegistry) -> SuiteConfig:
    """Raises ConfigError with every problem."""
    if not isinstance(file.value, dict):
        raise ConfigError([Problem(file.where(()), "", "a suite is a mapping with `systems`, `data` and `trials`")])
    try:
        return SuiteConfig.model_validate(file.value, context={"registry": registry})
    except ValidationError as error:
        raise ConfigError(problems_of(error, file.value, file)) from None


def expand(suite: SuiteConfig, name: str, registry: PluginRegistry) -> Pipeline:
    """The pipeline that computes every cell of the suite; ``evaluation_step`` names the step of a cell."""
    flat = suite.model_dump(mode="json")
    steps = [step for system in suite.systems for step in _steps_of(system, suite, flat)]
    raw = {key: flat[key] for key in ("name", "run_dir", "seed", "device", "data")} | {"steps": steps}
    return load_pipeline(parse_yaml(dump_yaml(raw), f"{name} (expanded)"), registry)


def evaluation_step(system: str, trial: str) -> str:
    return f"evaluate-{system}-{trial}"


def _embedding_step(system: str, data: str, occlusion: Mapping[str, Any] | None) -> str:
    """The embed step of some faces, covered or not. occlusion: the block, validated and written out in full.

    Named by what it is: `faces.test` cannot meet `faces-test`, and a new condition moves no other cell.
    """
    return f"embed-{system}-{hashlib.sha256(canonical([data, occlusion])).hexdigest()[:10]}"


def _steps_of(system: str, suite: SuiteConfig, flat: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    chosen = suite.systems[system]
    model = chosen.model or f"model-{system}"
    if not chosen.model:
        written = flat["systems"][system]
        yield {"use": "pretrained", "name": model, "backbone": written["backbone"], "weights": written["weights"]}
    embedded: dict[str, dict[str, Any]] = {}

    def embedding(data: str, condition: str | None) -> str:
        occlusion = flat["conditions"][condition] if condition else None
        name = _embedding_step(system, data, occlusion)
        step = {"use": "embed", "name": name, "model": model, "data": str(data), "occlusion": occlusion}
        embedded[name] = suite.embed | chosen.embed | step
        return name

    evaluations = [
        {
            "use": "evaluate",
            "name": evaluation_step(system, trial_name),
            "reference": embedding(trial.reference or trial.data, None),
            "probes": {condition: embedding(trial.data, condition) for condition in suite.conditions},
            "protocols": [flat["trials"][trial_name]["protocol"]],
        }
        for trial_name, trial in suite.trials.items()
    ]
    yield from embedded.values()
    yield from evaluations
