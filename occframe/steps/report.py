"""Step ``report``: one HTML file with the figures, curves, occluded samples and worst mistakes of an evaluation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field

from occframe.component import BuildContext, EvaluationRef, GeneratorRef, ModelRef
from occframe.errors import OccframeError
from occframe.step import Artefact, StepConfig, StepContext, StepOutcome
from occframe.storage import exists, join, local_path, read_bytes, write_bytes

if TYPE_CHECKING:
    from occframe.evaluation.report.charts import Chart
    from occframe.evaluation.report.mistakes import Face
    from occframe.evaluation.report.page import ContactSheet
    from occframe.evaluation.report.pictures import Picture
    from occframe.evaluation.results import Evaluation
    from occframe.types import Mistake


class ReportConfig(StepConfig):
    produces = "report"

    evaluation: EvaluationRef = Field(description="what to report")
    models: list[ModelRef] = Field([], description="models trained by this run, whose loss curves are shown")
    generators: list[GeneratorRef] = Field([], description="generators trained by this run, likewise")
    title: str = Field("", max_length=200, description="heading of the report; the run's name if empty")
    faces: bool = Field(True, description="show pictures of people; ids and scores are listed either way")
    samples: int = Field(12, ge=0, le=48, description="occluded faces to show of each occluded condition")


class ReportStep:
    def run(self, context: StepContext) -> StepOutcome:
        from occframe.evaluation.report import content
        from occframe.evaluation.report.charts import colours_of
        from occframe.evaluation.report.mistakes import mistake_groups, shown_mistakes
        from occframe.evaluation.report.page import Report, render
        from occframe.evaluation.results import load_evaluation
        from occframe.steps.mistake_pictures import mistake_pictures

        config: ReportConfig = context.config
        evaluation = load_evaluation(context.artefact(config.evaluation).url, trials=False)
        results = content.main_results(evaluation)
        # The main conditions have the first colours, so that each is told from the others.
        lines = list(dict.fromkeys([*content.main_conditions(evaluation), *evaluation.probes]))
        notes: list[str] = []
        sheets: list[ContactSheet] = []
        mistakes = {(protocol, name): result for protocol, of in results.items() for name, result in of.items()}
        pictures: Mapping[Face, Picture] = {}
        if config.faces:
            problems: list[str] = []
            try:
                sheets = list(_contact_sheets(context, evaluation, config.samples))
            except OccframeError as error:
                problems.append(error.message)
            wanted: dict[str, list[Mistake]] = defaultdict(list)
            for _, condition, _, items in shown_mistakes(mistakes):
                wanted[condition] += items
            pictures, further = mistake_pictures(context, evaluation, wanted)
            for problem in dict.fromkeys([*problems, *further]):
                notes.append(f"Pictures are left out: {problem}.")
                context.note(notes[-1])
        report = Report(
            title=config.title or str(context.run_info.get("name", "Evaluation")),
            facts=_facts(context.run_info, evaluation),
            lines=lines,
            cards=content.cards(results),
            tables=[*content.tables(results), *content.group_tables(results), *content.sweep_tables(evaluation)],
            charts=[
                *content.sweep_charts(evaluation),
                *content.charts(results, colours_of(lines)),
                *_loss_charts([context.artefact(name) for name in (*config.models, *config.generators)]),
            ],
            sheets=sheets,
            mistakes=mistake_groups(mistakes, dict.fromkeys(results, pictures)),
            notes=notes,
            configuration=_yaml(context.run_info.get("config")),
            environment=list(_environment(context.run_info)),
        )
        where = join(context.url, "report.html")
        write_bytes(where, render(report).encode())
        return StepOutcome(outputs={"": {"file": "report.html"}}, headlines=[f"report: {local_path(where) or where}"])


def _contact_sheets(context: StepContext, evaluation: Evaluation, count: int) -> Iterator[ContactSheet]:
    from occframe.evaluation.report.page import ContactSheet
    from occframe.evaluation.report.pictures import occluded_samples
    from occframe.gallery import Gallery
    from occframe.steps.mistake_pictures import replay

    points = [condition for sweep in evaluation.sweeps for _, condition in sweep.points]
    for condition, artefact in evaluation.probes.items():
        # The points of sweeps are many, and differ by degrees: they share what one condition has.
        shown = min(count, max(2, count // len(points))) if condition in points else count
        if shown == 0 or not artefact.meta.get("occlusion"):
            continue
        ids = [name for batch in Gallery.open(artefact.url).iter_batches() for name in batch.ids]
        chosen = [ids[place * len(ids) // shown] for place in range(shown)] if len(ids) > shown else ids
        samples = occluded_samples(chosen, replay(context, artefact, chosen))
        caption = f"{len(chosen)} of {len(ids):,} probes, evenly spaced: before, and as the model was given them."
        yield ContactSheet(condition, caption, samples)


def _loss_charts(models: Sequence[Artefact]) -> list[Chart]:
    from occframe.evaluation.report.charts import loss_chart

    charts = []
    for number, model in enumerate(models):
        where = join(model.url, "metrics.jsonl")
        losses = _losses(read_bytes(where)) if exists(where) else {}
        if losses:
            charts.append(loss_chart(f"loss-{number}", model.name, losses))
    return charts


def _losses(log: bytes) -> dict[str, Any]:
    """The total, and the terms where there are several. A last line cut short by a kill is left out."""
    import numpy as np

    from occframe.types import Curve

    lines = [json.loads(line) for line in log.splitlines(keepends=True) if line.endswith(b"\n")]
    steps = [line for line in lines if line.get("kind") == "steps"]
    names = [name for name in dict.fromkeys(key for line in steps for key in line) if name.startswith("loss")]
    names = names if len(names) > 2 else [name for name in names if name == "loss"]
    curves = {}
    for name in names:
        points = np.array([(line["step"], line[name]) for line in steps if name in line])
        points = points[:: max(1, len(points) // 400)]
        curves[name.removeprefix("loss.")] = Curve(name, points[:, 0], points[:, 1])
    return curves


def _facts(info: Mapping[str, Any], evaluation: Evaluation) -> list[tuple[str, str]]:
    tables = {"references": evaluation.reference} | {
        f"{name} probes": found for name, found in evaluation.probes.items()
    }
    counted = {term: f"{artefact.meta['count']:,}" for term, artefact in tables.items() if "count" in artefact.meta}
    told = {"run": info.get("name"), "started": _date(info.get("started")), "seed": info.get("seed")}
    return [(term, str(value)) for term, value in (told | counted).items() if value is not None]


def _date(stamp: Any) -> str | None:
    """``14 September 2026, 10:22 UTC``."""
    try:
        moment = datetime.fromisoformat(stamp).astimezone(UTC)
    except (TypeError, ValueError):
        return None
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _environment(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in ("versions", "machine", "data"):
        for key, value in dict(info.get(section) or {}).items():
            yield key, str(value)
    if info.get("plugins"):
        yield "plugins", ", ".join(map(str, info["plugins"]))


def _yaml(config: Any) -> str:
    from occframe.yamlfile import dump_yaml

    return dump_yaml(config) if config else ""


def build(config: ReportConfig, context: BuildContext) -> ReportStep:
    return ReportStep()
