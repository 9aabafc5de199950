"""A good evaluation protocol, and one for each promise that breaks it."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import numpy as np

from occframe import Config, Curve, Mistake, ProtocolResult, hookimpl


class NoOptions(Config):
    """Has none."""


class Good:
    """Whether the nearest other picture is of the same person."""

    def __init__(self, config, context):
        self.runs = itertools.count()

    def products(self, reference, probe):
        scores = probe.vectors @ reference.vectors.T
        same = np.array(probe.ids)[:, None] == np.array(reference.ids)[None]
        return np.where(same, -np.inf, scores)

    def evaluate(self, reference, probe, hits):
        best = self.products(reference, probe).argmax(1)
        right = np.array(probe.subjects) == np.array(reference.subjects)[best]
        curve = Curve("CMC", np.array([1.0]), np.array([right.mean()]))
        mistakes = [
            Mistake("false accept", reference.ids[best[row]], probe.ids[row], 0.5) for row in np.flatnonzero(~right)
        ]
        return ProtocolResult({"rank-1 rate": float(right.mean())}, {"CMC": curve}, mistakes, {"probes": len(right)})


class GivesFigures(Good):
    def evaluate(self, reference, probe, hits):
        return replace(super().evaluate(reference, probe, hits), metrics={})


class RatesAreFractions(Good):
    def evaluate(self, reference, probe, hits):
        found = super().evaluate(reference, probe, hits)
        return replace(found, metrics={name: 100 * value for name, value in found.metrics.items()})


class ResultsArePlain(Good):
    def evaluate(self, reference, probe, hits):
        found = super().evaluate(reference, probe, hits)
        return replace(found, mistakes=[Mistake("false accept", "row 7", probe.ids[0], 0.5)])


class OrderChangesNothing(Good):
    def evaluate(self, reference, probe, hits):
        found = super().evaluate(reference, probe, hits)
        first = float(reference.subjects[0] == probe.subjects[-1]) / 2 + float(probe.ids[0][-1]) / 20
        return replace(found, metrics={"first": first + len(probe.ids[0]) / 1000 + hash(probe.ids[0]) % 97 / 1000})


class OneTableOnBothSides(Good):
    def products(self, reference, probe):
        return probe.vectors @ reference.vectors.T


class IsDeterministic(Good):
    def evaluate(self, reference, probe, hits):
        found = super().evaluate(reference, probe, hits)
        return replace(found, metrics=found.metrics | {"drawn": float(np.random.rand())})


class InputIsUntouched(Good):
    def evaluate(self, reference, probe, hits):
        found = super().evaluate(reference, probe, hits)
        probe.vectors[:] = -probe.vectors
        return found


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.lock = threading.Lock()


BROKEN = {
    "gives_figures": GivesFigures,
    "rates_are_fractions": RatesAreFractions,
    "results_are_plain": ResultsArePlain,
    "order_changes_nothing": OrderChangesNothing,
    "one_table_on_both_sides": OneTableOnBothSides,
    "is_deterministic": IsDeterministic,
    "input_is_untouched": InputIsUntouched,
    "is_picklable": IsPicklable,
}


@hookimpl
def occframe_register_protocols(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="nearest neighbour")
