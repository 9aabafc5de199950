"""Results as plain data for JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from occframe.types import Curve, Group, Histogram, Interval, Mistake, ProtocolResult, Trials

#: Points of a curve that are kept. A ROC over millions of pairs has a corner for every genuine one.
MAX_POINTS = 400


def result_to_plain(result: ProtocolResult) -> dict[str, Any]:
    """One protocol under one condition, without ``result_arrays``."""
    return {
        "metrics": dict(result.metrics),
        "intervals": {
            name: {
                "low": item.low,
                "high": item.high,
                "level": item.level,
                "rounds": len(item.rounds),
                "drawn": item.drawn,
            }
            for name, item in result.intervals.items()
        },
        "counts": dict(result.counts),
        "notes": list(result.notes),
        "curves": {chart: _curve(curve) for chart, curve in result.curves.items()},
        "histograms": {
            name: {
                "edges": _numbers(item.edges),
                "counts": {series: np.asarray(counts).tolist() for series, counts in item.counts.items()},
            }
            for name, item in result.histograms.items()
        },
        "groups": [asdict(group) for group in result.groups],
        "mistakes": [asdict(mistake) for mistake in result.mistakes],
        "trials": None
        if result.trials is None
        else {"digest": result.trials.digest, "rule": result.trials.rule, "count": len(result.trials.correct)},
    }


def result_arrays(result: ProtocolResult) -> dict[str, np.ndarray]:
    """What JSON would carry poorly: bootstrap rounds and trials."""
    arrays: dict[str, np.ndarray] = {
        f"rounds/{name}": np.asarray(item.rounds, np.float32) for name, item in result.intervals.items()
    }
    if result.trials is not None:
        arrays["correct"] = np.packbits(result.trials.correct)
        arrays["scores"] = np.asarray(result.trials.scores, np.float32)
    return arrays


def result_from_plain(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray], prefix: str) -> ProtocolResult:
    """prefix: of this result's arrays. Without arrays the rounds are empty and there are no trials."""
    intervals = {}
    for name, item in plain["intervals"].items():
        key = f"{prefix}/rounds/{name}"
        rounds = arrays[key] if key in arrays else np.empty(0, np.float32)
        intervals[name] = Interval(item["low"], item["high"], rounds, item["level"], item["drawn"])
    return ProtocolResult(
        metrics=plain["metrics"],
        curves={
            chart: Curve(
                curve["name"],
                np.array(curve["x"], float),
                np.array(curve["y"], float),
                None if curve["supported"] is None else (curve["supported"][0], curve["supported"][1]),
            )
            for chart, curve in plain["curves"].items()
        },
        mistakes=[Mistake(**mistake) for mistake in plain["mistakes"]],
        counts=plain["counts"],
        notes=plain["notes"],
        intervals=intervals,
        histograms={
            name: Histogram(
                np.array(item["edges"], float),
                {series: np.array(counts, np.int64) for series, counts in item["counts"].items()},
            )
            for name, item in plain["histograms"].items()
        },
        groups=[Group(**group) for group in plain["groups"]],
        trials=_trials(plain["trials"], arrays, prefix),
    )


def _trials(plain: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray], prefix: str) -> Trials | None:
    if plain is None or f"{prefix}/correct" not in arrays:
        return None
    correct = np.unpackbits(arrays[f"{prefix}/correct"], count=plain["count"]).astype(bool)
    return Trials(plain["digest"], correct, arrays[f"{prefix}/scores"], plain["rule"])


def _curve(curve: Curve) -> dict[str, Any]:
    kept = _kept_points(curve.x, curve.y)
    return {
        "name": curve.name,
        "x": _numbers(curve.x[kept]),
        "y": _numbers(curve.y[kept]),
        "supported": None if curve.supported is None else [float(end) for end in curve.supported],
    }


def _kept_points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rows of at most ``MAX_POINTS`` points: of the curve itself, none made up. They are dense along x, along log x
    and along y, so that the curve looks the same on either axis, and both ends are among them."""
    if x.size <= MAX_POINTS:
        return np.arange(x.size)
    share = MAX_POINTS // 3
    positive = x[x > 0]
    grids = [np.linspace(x[0], x[-1], share)]
    if positive.size:
        grids.append(np.geomspace(positive.min(), x[-1], share))
    along_x = [np.searchsorted(x, grid, side="right") - 1 for grid in grids]
    along_y = np.searchsorted(y, np.linspace(y[0], y[-1], share - 2))
    return np.unique(np.clip(np.concatenate([*along_x, along_y, [0, x.size - 1]]), 0, x.size - 1))


def _numbers(values: np.ndarray) -> list[float]:
    """Nine digits tell counts of a billion apart, and take half the space of seventeen."""
    return [float(f"{value:.9g}") for value in np.asarray(values, float).tolist()]
