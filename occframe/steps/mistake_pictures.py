"""The faces of mistakes, as the recogniser was given them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from occframe.errors import OccframeError
from occframe.step import Artefact, StepContext

if TYPE_CHECKING:
    from occframe.evaluation.report.mistakes import Face
    from occframe.evaluation.report.pictures import Picture
    from occframe.evaluation.results import Evaluation
    from occframe.types import FaceBatch, Mistake


def mistake_pictures(
    context: StepContext, evaluation: Evaluation, mistakes: Mapping[str, Sequence[Mistake]]
) -> tuple[dict[Face, Picture], list[str]]:
    """The pictures, and why there are none of some faces. mistakes: by condition."""
    from occframe.evaluation.report.pictures import pictures

    places: dict[str, dict[str, list[Face]]] = defaultdict(lambda: defaultdict(list))
    artefacts: dict[str, Artefact] = {}
    for condition, of in mistakes.items():
        for face, artefact, name in _where(evaluation, condition, of):
            artefacts[artefact.url] = artefact
            places[artefact.url][name].append(face)
    found: dict[Face, Picture] = {}
    problems: list[str] = []
    for url, wanted in places.items():
        ids = list(wanted)
        try:
            shown = pictures(ids, replay(context, artefacts[url], ids).images)
        except OccframeError as error:
            problems.append(error.message)
            continue
        found |= {face: picture for picture in shown for face in wanted[picture.id]}
    return found, problems


def _where(evaluation: Evaluation, condition: str, mistakes: Sequence[Mistake]) -> Iterator[tuple[Face, Artefact, str]]:
    """Each face with the embeddings it is one of, and its id among these."""
    from occframe.evaluation.report.mistakes import faces_in
    from occframe.evaluation.tables import DISTRACTOR

    reference, distractors = evaluation.reference_of(condition), evaluation.distractors
    for mistake in mistakes:
        enrolled, probe = faces_in(mistake, condition)
        yield probe, evaluation.probes[condition], mistake.probe_id
        if distractors and mistake.reference_id.startswith(DISTRACTOR):
            yield enrolled, distractors, mistake.reference_id.removeprefix(DISTRACTOR)
        else:
            yield enrolled, reference, mistake.reference_id


def replay(context: StepContext, artefact: Artefact, ids: Sequence[str]) -> FaceBatch:
    """As ``replay_faces``. Raises OccframeError where embeddings do not say what they were made of."""
    from occframe.steps.replay import replay_faces

    if "data" not in artefact.meta:
        raise OccframeError(f"`{artefact.name}` does not say which pictures it was made of")
    return replay_faces(context, artefact, ids)
