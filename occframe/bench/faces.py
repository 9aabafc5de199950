"""The pairs that systems got most wrong, with the faces as the systems were given them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from occframe.bench.inputs import content_digest
from occframe.bench.results import evaluation_url
from occframe.bench.suite import SuiteConfig, expand
from occframe.component import DataRef
from occframe.errors import OccframeError
from occframe.evaluation.figures import headline_names, lower_is_better
from occframe.evaluation.report.mistakes import Face, Results, faces_in, shown_mistakes
from occframe.evaluation.report.pictures import Picture
from occframe.evaluation.results import Evaluation, load_evaluation
from occframe.step import Artefact
from occframe.steps.mistake_pictures import mistake_pictures
from occframe.types import Mistake, ProtocolResult

if TYPE_CHECKING:
    from occframe.pipeline import Runner
    from occframe.plugins import PluginRegistry

#: By trial, condition and system.
Cells = Mapping[str, Mapping[str, Mapping[str, ProtocolResult]]]


def hardest(found: Cells) -> dict[tuple[str, str], ProtocolResult]:
    """By ``TRIAL, SYSTEM`` and condition: each trial under that condition alone where its first figure is worst, in the
    mean over the systems."""
    chosen: dict[tuple[str, str], ProtocolResult] = {}
    for trial, by_condition in found.items():
        levels = {condition: _level(of.values()) for condition, of in by_condition.items()}
        condition = min(levels, key=lambda name: levels[name])
        chosen |= {(_name(trial, system), condition): of for system, of in by_condition[condition].items()}
    return chosen


def _level(results: Iterable[ProtocolResult]) -> float:
    """The mean of the first figure, turned so that more is better."""
    of = list(results)
    names = headline_names({name: 0.0 for result in of for name in result.metrics}, 1)
    values = [result.metrics[name] for name in names for result in of if name in result.metrics]
    if not values:
        return 0.0
    return -fmean(values) if lower_is_better(names[0]) else fmean(values)


def _name(trial: str, system: str) -> str:
    return f"{trial}, {system}"


def faces_of(
    result: Mapping[str, Any], results: Results, registry: PluginRegistry, room: int
) -> tuple[dict[str, dict[Face, Picture]], list[str]]:
    """Pictures of the mistakes of ``results`` (as ``hardest`` gives them), by the same names, and why there are none of
    some. room: how many bytes of the page they may take; the worst pairs of each group come first."""
    from occframe.pipeline import RunningStep

    try:
        runner = _runner(result, registry)
        for name in runner.pipeline.config.data:
            runner.dataset(name)
    except ValidationError as error:
        return {}, [f"the suite's configuration is no longer valid ({error.error_count()} problems)"]
    except OccframeError as error:
        return {}, [error.message]
    same = _SameData(runner, result.get("inputs", {}))
    wanted: dict[str, dict[str, list[Mistake]]] = {}
    for name, condition, _, mistakes in shown_mistakes(results):
        wanted.setdefault(name, {}).setdefault(condition, []).extend(mistakes)
    found: dict[str, dict[Face, Picture]] = {}
    problems: list[str] = []
    for row in result["rows"]:
        name = _name(row["trial"], row["system"])
        if name in wanted and name not in found:
            url = evaluation_url(result, row)
            step = url.rpartition("/")[2]
            context = RunningStep(runner, step, runner.pipeline.steps[step], url)
            evaluation = same(load_evaluation(url, trials=False))
            found[name], why = mistake_pictures(context, evaluation, wanted[name])
            problems += why
    return _as_many_as_fit(found, results, room), list(dict.fromkeys(problems))


def _runner(result: Mapping[str, Any], registry: PluginRegistry) -> Runner:
    from rich.console import Console

    from occframe.pipeline import Runner

    suite = SuiteConfig.model_validate(result["configuration"], context={"registry": registry})
    return Runner(expand(suite, suite.name, registry), registry, Console(quiet=True))


class _SameData:
    """Data that was moved since, or fetched anew, is still what was embedded where its content is that of the result.

    inputs: digests of a result.
    """

    def __init__(self, runner: Runner, inputs: Mapping[str, str]) -> None:
        self._runner, self._inputs = runner, inputs
        self._known: dict[str, bool] = {}

    def __call__(self, evaluation: Evaluation) -> Evaluation:
        return replace(
            evaluation,
            reference=self._of(evaluation.reference),
            probes={condition: self._of(artefact) for condition, artefact in evaluation.probes.items()},
            references={condition: self._of(artefact) for condition, artefact in evaluation.references.items()},
            distractors=evaluation.distractors and self._of(evaluation.distractors),
        )

    def _of(self, artefact: Artefact) -> Artefact:
        if "data" not in artefact.meta:
            return artefact
        data = DataRef(artefact.meta["data"])
        now = self._runner.dataset(data).fingerprint()
        if now != artefact.meta["data_fingerprint"] and self._is_known(data.head):
            return replace(artefact, meta={**artefact.meta, "data_fingerprint": now})
        return artefact

    def _is_known(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = content_digest(self._runner.dataset(name)) == self._inputs.get(f"data.{name}")
        return self._known[name]


def _as_many_as_fit(
    found: Mapping[str, Mapping[Face, Picture]], results: Results, room: int
) -> dict[str, dict[Face, Picture]]:
    """Of each group of mistakes the pictures of so many pairs, worst first, that all take no more than ``room``."""
    pairs = [
        (place, name, faces_in(item, condition))
        for name, condition, _, mistakes in shown_mistakes(results)
        for place, item in enumerate(mistakes)
    ]
    kept: dict[str, dict[Face, Picture]] = {name: {} for name in found}
    for most in range(1 + max((place for place, _, _ in pairs), default=0)):
        for place, name, faces in pairs:
            of = found.get(name, {})
            if place != most or not all(face in of for face in faces):
                continue
            room -= sum(len(of[face].uri) for face in faces)
            if room < 0:
                return kept
            kept[name] |= {face: of[face] for face in faces}
    return kept
