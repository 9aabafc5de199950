"""Is one system better than another? Paired tests: both were asked the same.

``bootstrap_difference`` asks whether a figure would still differ with other people, ``mcnemar`` whether the trials that
only one of them got right could be split so unevenly by chance (McNemar, Psychometrika 1947; the exact form). McNemar
takes trials as independent, which pairs that share people are not: where the two disagree, trust the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from occframe.errors import OccframeError
from occframe.types import Interval, ProtocolResult


@dataclass(frozen=True)
class Difference:
    """difference: second - first, low and high of its confidence interval. p: two-sided, that there is none."""

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class McNemar:
    """only_first, only_second: trials that only this system got right. p: two-sided, that both are as good."""

    trials: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two systems under one protocol and condition. mcnemar: None where single trials are not known. notes: why."""

    differences: Sequence[Difference]
    mcnemar: McNemar | None
    notes: Sequence[str]


def compare_results(first: ProtocolResult, second: ProtocolResult) -> Comparison:
    """All figures that both have intervals of, and their trials. What cannot be paired is left out and noted."""
    differences, notes = [], []
    unpaired = []
    for name, one in first.intervals.items():
        other = second.intervals.get(name)
        if other is None:
            continue
        if one.drawn != other.drawn or one.rounds.size != other.rounds.size or not one.rounds.size:
            unpaired.append(name)
            continue
        differences.append(bootstrap_difference(name, first.metrics[name], one, second.metrics[name], other))
    if unpaired:
        notes.append(
            f"{', '.join(unpaired)}: no paired interval, as the bootstraps are of different people, seeds or rounds, "
            "or their rounds are not at hand."
        )
    test = None
    if first.trials is None or second.trials is None:
        notes.append("McNemar's test needs what became of every trial, which is kept for listed pairs and for probes.")
    elif first.trials.digest != second.trials.digest:
        notes.append("McNemar's test is left out: the two were not asked the same trials.")
    else:
        test = mcnemar(first.trials.correct, second.trials.correct)
    return Comparison(differences, test, notes)


def bootstrap_difference(
    metric: str, first: float, first_interval: Interval, second: float, second_interval: Interval
) -> Difference:
    """The figures' difference over rounds that drew the same people.

    Raises OccframeError: they did not.
    """
    if first_interval.drawn != second_interval.drawn or first_interval.rounds.size != second_interval.rounds.size:
        raise OccframeError(
            f"the bootstraps of {metric} drew different people", remedy="evaluate both with the same data, rounds, seed"
        )
    rounds = second_interval.rounds.astype(np.float64) - first_interval.rounds
    rounds = rounds[np.isfinite(rounds)]
    if not rounds.size:
        return Difference(metric, first, second, second - first, -math.inf, math.inf, 1.0)
    level = min(first_interval.level, second_interval.level)
    low, high = np.quantile(rounds, [(1 - level) / 2, (1 + level) / 2])
    # One more of each kind: n rounds cannot show a chance below 1 in n + 1 (Davison and Hinkley, 1997, ch. 4).
    tail = 1 + min(int((rounds <= 0).sum()), int((rounds >= 0).sum()))
    p = min(1.0, 2 * tail / (rounds.size + 1))
    return Difference(metric, first, second, second - first, float(low), float(high), p)


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """first, second: bool [T], whether each trial was decided rightly. Raises OccframeError: they differ in length."""
    if first.shape != second.shape:
        raise OccframeError(
            f"{first.size} trials of one system, {second.size} of the other", remedy="give both the same trials"
        )
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(int(first.size), one, other, _binomial(min(one, other), one + other))


def _binomial(successes: int, trials: int) -> float:
    """Two-sided chance of no more than ``successes`` (at most half) among ``trials`` throws of a coin."""
    if not trials or 2 * successes == trials:
        return 1.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(successes + 1)
    ]
    largest = max(logs)
    return min(1.0, 2 * math.exp(largest) * sum(math.exp(item - largest) for item in logs))
