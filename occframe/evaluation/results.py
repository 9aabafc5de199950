"""The result of an evaluation as files: ``evaluation.json`` for people and programs, ``curves.npz`` for charts."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from occframe.errors import OccframeError
from occframe.step import Artefact
from occframe.storage import exists, join, read_bytes, read_json, write_bytes, write_json
from occframe.types import Curve, Mistake, ProtocolResult

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """reference: the enrolled embeddings; probes: those compared with them, by condition.

    results: by protocol, then by condition.
    """

    reference: Artefact
    probes: Mapping[str, Artefact]
    results: Mapping[str, Mapping[str, ProtocolResult]]

    def metrics(self) -> dict[str, float]:
        """Flat, for manifests and result files: ``verification.occluded.tar@far=1e-3``."""
        return {
            f"{protocol}.{condition}.{name}": value
            for protocol, by_condition in self.results.items()
            for condition, result in by_condition.items()
            for name, value in result.metrics.items()
        }


def save_evaluation(url: str, evaluation: Evaluation) -> None:
    """Write both files into the directory ``url``. Raises OccframeError: a metric is not finite."""
    for name, value in evaluation.metrics().items():
        if not math.isfinite(value):
            raise OccframeError(f"{name} is {value}", remedy="report this to the authors of that protocol")
    arrays, results = {}, {}
    for protocol, by_condition in evaluation.results.items():
        results[protocol] = {condition: _plain(result) for condition, result in by_condition.items()}
        for condition, result in by_condition.items():
            for chart, curve in result.curves.items():
                key = f"{protocol}/{condition}/{chart}"
                arrays[f"{key}/x"], arrays[f"{key}/y"] = curve.x, curve.y
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    write_bytes(join(url, "curves.npz"), packed.getvalue())
    # Last, so that whoever sees the JSON also finds the curves.
    write_json(
        join(url, "evaluation.json"),
        {
            "format": FORMAT,
            "reference": asdict(evaluation.reference),
            "probes": {condition: asdict(artefact) for condition, artefact in evaluation.probes.items()},
            "results": results,
        },
    )


def load_evaluation(url: str) -> Evaluation:
    """Read what ``save_evaluation`` wrote. Raises OccframeError: it is not there, or of another format."""
    where = join(url, "evaluation.json")
    if not exists(where):
        raise OccframeError(f"no evaluation at {where}", remedy="run the evaluate step first")
    try:
        plain = read_json(where)
        if plain["format"] != FORMAT:
            raise OccframeError(
                f"{where} has format {plain['format']}, this occframe reads {FORMAT}", remedy="evaluate again"
            )
        with np.load(io.BytesIO(read_bytes(join(url, "curves.npz"))), allow_pickle=False) as arrays:
            return Evaluation(
                reference=Artefact(**plain["reference"]),
                probes={condition: Artefact(**artefact) for condition, artefact in plain["probes"].items()},
                results={
                    protocol: {
                        condition: _result(result, arrays, f"{protocol}/{condition}")
                        for condition, result in by_condition.items()
                    }
                    for protocol, by_condition in plain["results"].items()
                },
            )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise OccframeError(f"{where} is damaged: {error}", remedy="evaluate again") from error


def _plain(result: ProtocolResult) -> dict[str, Any]:
    return {
        "metrics": dict(result.metrics),
        "counts": dict(result.counts),
        "notes": list(result.notes),
        "mistakes": [asdict(mistake) for mistake in result.mistakes],
        "curves": {chart: curve.name for chart, curve in result.curves.items()},
    }


def _result(plain: Mapping[str, Any], arrays: Any, key: str) -> ProtocolResult:
    return ProtocolResult(
        metrics=plain["metrics"],
        curves={
            chart: Curve(name, arrays[f"{key}/{chart}/x"], arrays[f"{key}/{chart}/y"])
            for chart, name in plain["curves"].items()
        },
        mistakes=[Mistake(**mistake) for mistake in plain["mistakes"]],
        counts=plain["counts"],
        notes=plain["notes"],
    )
