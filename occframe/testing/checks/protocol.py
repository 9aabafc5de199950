"""What an evaluation protocol promises: see ``occframe.types.EvaluationProtocol``."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from occframe.testing.check import check, require
from occframe.testing.samples import brute_force
from occframe.testing.subject import Subject
from occframe.types import EmbeddingTable, Hits, ProtocolResult

PEOPLE, PICTURES, DIM = 12, 6, 16


def tables(subject: Subject, noise: float = 0.6) -> tuple[EmbeddingTable, EmbeddingTable, Hits]:
    """The first half of every person's pictures enrolled, the second half as probes, and the hits of a search.

    noise: how far pictures of one person lie apart, 0 not at all. Further columns as the protocol asks for.
    """
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((PEOPLE, DIM))
    ids = [f"person-{person:02}/{picture}" for person in range(PEOPLE) for picture in range(PICTURES)]
    people = [name.partition("/")[0] for name in ids]
    vectors = np.repeat(centres, PICTURES, axis=0) + noise * draw.standard_normal((len(ids), DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    columns = {name: draw.random(len(ids)) for name in getattr(subject.built, "columns", ())}
    whole = EmbeddingTable(ids, people, vectors, columns)
    enrolled = [row for row in range(len(ids)) if row % PICTURES < PICTURES // 2]
    probes = [row for row in range(len(ids)) if row % PICTURES >= PICTURES // 2]
    reference, probe = _part(whole, enrolled), _part(whole, probes)
    return reference, probe, _hits(reference, probe)


def _hits(reference: EmbeddingTable, probe: EmbeddingTable) -> Hits:
    return brute_force(dict(zip(reference.ids, reference.vectors, strict=True)), probe.vectors, 20)


def _part(table: EmbeddingTable, rows: Sequence[int]) -> EmbeddingTable:
    columns = {name: values[list(rows)] for name, values in table.columns.items()}
    return EmbeddingTable(
        [table.ids[row] for row in rows], [table.subjects[row] for row in rows], table.vectors[list(rows)], columns
    )


def _evaluate(protocol: Any, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
    found = protocol.evaluate(reference, probe, hits)
    require(isinstance(found, ProtocolResult), f"evaluate returned {type(found).__name__}, not ProtocolResult")
    return found  # type: ignore[no-any-return]


def _same(one: ProtocolResult, other: ProtocolResult) -> list[str]:
    """Names of figures that differ by more than rounding."""
    names = sorted(set(one.metrics) | set(other.metrics))
    far = math.nan
    pairs = [(name, one.metrics.get(name, far), other.metrics.get(name, far)) for name in names]
    return [name for name, a, b in pairs if not (math.isclose(a, b, abs_tol=1e-6) or (math.isnan(a) and math.isnan(b)))]


@check()
def gives_figures(subject: Subject) -> None:
    """At least one figure; figures and counts are numbers under names, none infinite."""
    found = _evaluate(subject.built, *tables(subject))
    require(found.metrics, "there are no metrics")
    for name, value in {**found.metrics, **found.counts}.items():
        require(isinstance(name, str) and name, f"a figure is called {name!r}")
        require(isinstance(value, int | float) and not isinstance(value, bool), f"{name} is {value!r}, no plain number")
        require(not math.isinf(value), f"{name} is infinite")


@check()
def rates_are_fractions(subject: Subject) -> None:
    """What is called an accuracy, a rate or by the name of one is a fraction in 0..1, not percent."""
    for name, value in _evaluate(subject.built, *tables(subject)).metrics.items():
        if re.search(r"accuracy|rate\b|rank-\d|\b(TAR|TPIR|FNIR|FPIR|FAR|FRR|FMR|FNMR|EER|AUC)\b", name):
            require(math.isnan(value) or 0 <= value <= 1, f"{name} is {value:.4g}: a rate is a fraction in 0..1")


@check()
def results_are_plain(subject: Subject) -> None:
    """Curves have as many x as y, mistakes name ids of the tables, notes are texts."""
    reference, probe, hits = tables(subject)
    found = _evaluate(subject.built, reference, probe, hits)
    for name, curve in found.curves.items():
        require(len(curve.x) == len(curve.y) > 0, f"curve `{name}` has {len(curve.x)} x and {len(curve.y)} y")
    for mistake in found.mistakes:
        known = mistake.reference_id in set(reference.ids) and mistake.probe_id in set(probe.ids)
        require(known, f"a mistake names {mistake.reference_id!r} and {mistake.probe_id!r}, which are in no table")
    require(all(isinstance(note, str) for note in found.notes), "a note is no text")


@check()
def order_changes_nothing(subject: Subject) -> None:
    """The order of rows plays no part."""
    reference, probe, hits = tables(subject)
    order = np.random.default_rng(1).permutation(len(probe.ids)).tolist()
    moved = _part(probe, order)
    turned = _part(reference, list(reversed(range(len(reference.ids)))))
    one = _evaluate(subject.built, reference, probe, hits)
    two = _evaluate(subject.built, turned, moved, Hits(hits.scores[order], hits.ids[order]))
    require(not _same(one, two), f"in another order these differ: {', '.join(_same(one, two))}")


@check()
def one_table_on_both_sides(subject: Subject) -> None:
    """With one table as reference and probe, no row is compared with itself: a perfect score needs real matches."""
    reference, _, _ = tables(subject, noise=3.0)
    found = _evaluate(subject.built, reference, reference, None)
    apart, _, _ = tables(subject, noise=3.0)
    unlike = EmbeddingTable([f"copy {name}" for name in apart.ids], apart.subjects, apart.vectors, apart.columns)
    with_self = _evaluate(subject.built, reference, unlike, None)
    known = set(found.metrics) & set(with_self.metrics)
    differs = any(not math.isclose(found.metrics[name], with_self.metrics[name], abs_tol=1e-9) for name in known)
    require(differs, "every row seems to be compared with itself: figures are those of a table and its exact copy")


@check()
def is_deterministic(subject: Subject) -> None:
    """The same tables give the same figures, in another instance too."""
    one, two = _evaluate(subject.built, *tables(subject)), _evaluate(subject.build(), *tables(subject))
    require(not _same(one, two), f"two evaluations differ in {', '.join(_same(one, two))}")


@check()
def input_is_untouched(subject: Subject) -> None:
    """Tables and hits are left as they were."""
    reference, probe, hits = tables(subject)
    kept = [array.copy() for array in (reference.vectors, probe.vectors, hits.scores, hits.ids)]
    _evaluate(subject.built, reference, probe, hits)
    now = (reference.vectors, probe.vectors, hits.scores, hits.ids)
    require(
        all(np.array_equal(one, other) for one, other in zip(kept, now, strict=True)), "a table or the hits changed"
    )


@check(tier="extra")
def is_picklable(subject: Subject) -> None:
    """A worker process that is handed the protocol computes the same."""
    copy = pickle.loads(pickle.dumps(subject.built))
    one, two = _evaluate(subject.built, *tables(subject)), _evaluate(copy, *tables(subject))
    require(not _same(one, two), "a copy computes otherwise")
