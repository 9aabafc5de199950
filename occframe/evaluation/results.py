"""The result of an evaluation as files, for programs, reports and later comparisons.

``evaluation.json`` holds everything a report draws; its form is written out in docs/evaluation.md ("The result file")
and numbered by ``FORMAT``. ``trials.npz`` holds what only a comparison of two systems needs: bootstrap rounds and what
became of every trial.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from occframe.errors import OccframeError
from occframe.evaluation.plain import result_arrays, result_from_plain, result_to_plain
from occframe.step import Artefact
from occframe.storage import exists, join, read_bytes, read_json, write_bytes, write_json
from occframe.types import Curve, ProtocolResult

FORMAT = 2
JSON, ARRAYS = "evaluation.json", "trials.npz"


@dataclass(frozen=True)
class Sweep:
    """Conditions that differ in one quantity only. axis: its name, e.g. ``severity``. side: which faces it changes,
    ``probe``, ``gallery`` or ``both``. points: (value, condition), ascending."""

    name: str
    axis: str
    side: str
    points: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Evaluation:
    """reference: the enrolled embeddings; probes: those compared with them, by condition.

    results: by protocol, then by condition. references: instead of ``reference`` under the conditions named here.
    distractors: enrolled besides, people whom no probe shows.
    """

    reference: Artefact
    probes: Mapping[str, Artefact]
    results: Mapping[str, Mapping[str, ProtocolResult]]
    references: Mapping[str, Artefact] = field(default_factory=dict)
    distractors: Artefact | None = None
    sweeps: Sequence[Sweep] = ()

    def reference_of(self, condition: str) -> Artefact:
        return self.references.get(condition, self.reference)

    def metrics(self) -> dict[str, float]:
        """Flat, for manifests and result files: ``verification.occluded.tar@far=1e-3``."""
        return {
            f"{protocol}.{condition}.{name}": value
            for protocol, by_condition in self.results.items()
            for condition, result in by_condition.items()
            for name, value in result.metrics.items()
        }

    def sweep_curves(self, protocol: str, metric: str) -> dict[str, Curve]:
        """How a figure falls along each sweep: x the swept quantity, y the figure; by sweep name."""
        found = {}
        for sweep in self.sweeps:
            of = self.results[protocol]
            points = [(value, of[name].metrics[metric]) for value, name in sweep.points if metric in of[name].metrics]
            if points:
                x, y = np.array(points, float).T
                found[sweep.name] = Curve(metric, x, y)
        return found


def save_evaluation(url: str, evaluation: Evaluation) -> None:
    """Write both files into the directory ``url``. Raises OccframeError: a metric is not finite."""
    for name, value in evaluation.metrics().items():
        if not math.isfinite(value):
            raise OccframeError(f"{name} is {value}", remedy="report this to the authors of that protocol")
    arrays: dict[str, np.ndarray] = {}
    for protocol, by_condition in evaluation.results.items():
        for condition, result in by_condition.items():
            arrays |= {f"{protocol}/{condition}/{key}": array for key, array in result_arrays(result).items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    write_bytes(join(url, ARRAYS), packed.getvalue())
    write_json(join(url, JSON), evaluation_to_plain(evaluation))  # last: whoever sees it also finds the arrays


def evaluation_to_plain(evaluation: Evaluation) -> dict[str, Any]:
    """The content of ``evaluation.json``."""
    return {
        "format": FORMAT,
        "reference": asdict(evaluation.reference),
        "references": {condition: asdict(artefact) for condition, artefact in evaluation.references.items()},
        "probes": {condition: asdict(artefact) for condition, artefact in evaluation.probes.items()},
        "distractors": asdict(evaluation.distractors) if evaluation.distractors else None,
        "sweeps": [
            asdict(sweep) | {"points": [{"value": value, "condition": name} for value, name in sweep.points]}
            for sweep in evaluation.sweeps
        ],
        "results": {
            protocol: {condition: result_to_plain(result) for condition, result in by_condition.items()}
            for protocol, by_condition in evaluation.results.items()
        },
    }


def load_evaluation(url: str, *, trials: bool = True) -> Evaluation:
    """Read what ``save_evaluation`` wrote. trials: with bootstrap rounds and trials, which only comparisons need.

    Raises OccframeError: it is not there, damaged, or of another format.
    """
    where = join(url, JSON)
    if not exists(where):
        raise OccframeError(f"no evaluation at {where}", remedy="run the evaluate step first")
    try:
        plain = read_json(where)
        if plain["format"] != FORMAT:
            raise OccframeError(
                f"{where} has format {plain['format']}, this occframe reads {FORMAT}", remedy="evaluate again"
            )
        if not trials:
            return evaluation_from_plain(plain, {})
        with np.load(io.BytesIO(read_bytes(join(url, ARRAYS))), allow_pickle=False) as arrays:
            return evaluation_from_plain(plain, arrays)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise OccframeError(f"{where} is damaged: {error}", remedy="evaluate again") from error


def evaluation_from_plain(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Evaluation:
    """arrays: of ``trials.npz``; an empty mapping leaves intervals without rounds and results without trials.

    Raises KeyError, TypeError or ValueError where ``plain`` is not of this form.
    """
    return Evaluation(
        reference=Artefact(**plain["reference"]),
        probes={condition: Artefact(**artefact) for condition, artefact in plain["probes"].items()},
        results={
            protocol: {
                condition: result_from_plain(result, arrays, f"{protocol}/{condition}")
                for condition, result in by_condition.items()
            }
            for protocol, by_condition in plain["results"].items()
        },
        references={condition: Artefact(**artefact) for condition, artefact in plain["references"].items()},
        distractors=Artefact(**plain["distractors"]) if plain["distractors"] else None,
        sweeps=[
            Sweep(
                sweep["name"],
                sweep["axis"],
                sweep["side"],
                [(float(point["value"]), str(point["condition"])) for point in sweep["points"]],
            )
            for sweep in plain["sweeps"]
        ],
    )
