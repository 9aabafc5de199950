"""What protocols ask of two embedding tables: can the numbers be trusted, and which rows make a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from occframe.errors import OccframeError
from occframe.types import EmbeddingTable

#: Before the names of faces and people that are enrolled as distractors.
DISTRACTOR = "distractor/"


class PairSpace:
    """The pairs of a reference and a probe table, numbered by row.

    A face is never compared with itself: the same id on both sides is one picture, perhaps once clean and once
    occluded. Where both tables hold the same ids each two pictures are compared once, the one whose id comes first in
    the alphabet as the reference, so that clean and occluded conditions score the same pairs.

    reference_subjects, probe_subjects: int64 [R], [Q], identity labels in one numbering.
    reference_order, probe_order: int64 [R], [Q], rows by id. twins: int64 [Q], the reference row with a probe's own id
    or -1. people: how many there are on both sides together; people_digest: of their names.
    """

    def __init__(self, reference: EmbeddingTable, probe: EmbeddingTable) -> None:
        check_tables(reference, probe)
        split = [len(reference.ids)]
        names, places = np.unique(_texts(reference.ids, probe.ids), return_inverse=True)
        self._reference_places, self._probe_places = np.split(places, split)
        people, subjects = np.unique(_texts(reference.subjects, probe.subjects), return_inverse=True)
        self.people = people.size
        self.people_digest = hashlib.sha256("\n".join(people.tolist()).encode()).hexdigest()[:16]
        self.reference_subjects, self.probe_subjects = np.split(subjects, split)
        self.once = names.size == len(reference.ids) == len(probe.ids)
        self.reference_order, self.probe_order = np.argsort(self._reference_places), np.argsort(self._probe_places)
        row_of = np.full(names.size, -1)
        row_of[self._reference_places] = np.arange(len(reference.ids))
        self.twins = row_of[self._probe_places]
        shared = np.flatnonzero(self.twins >= 0)
        strangers = shared[self.reference_subjects[self.twins[shared]] != self.probe_subjects[shared]]
        if strangers.size:
            row = int(strangers[0])
            raise OccframeError(
                f"{probe.ids[row]!r} is {reference.subjects[int(self.twins[row])]!r} among the references "
                f"and {probe.subjects[row]!r} among the probes",
                remedy="give different pictures different ids, or compare embeddings of the same data",
            )

    def valid(self, reference_rows: np.ndarray, probe_rows: np.ndarray) -> np.ndarray:
        """Whether rows make a pair; the arguments broadcast."""
        first, second = self._reference_places[reference_rows], self._probe_places[probe_rows]
        verdict: np.ndarray = first < second if self.once else first != second
        return verdict

    def same(self, reference_rows: np.ndarray, probe_rows: np.ndarray) -> np.ndarray:
        """Whether rows show one person; the arguments broadcast."""
        verdict: np.ndarray = self.reference_subjects[reference_rows] == self.probe_subjects[probe_rows]
        return verdict

    def mates(self) -> np.ndarray:
        """How many references show the person of each probe, its own picture not counted: int64 [Q]."""
        sizes = np.bincount(self.reference_subjects, minlength=int(self.probe_subjects.max()) + 1)
        others: np.ndarray = sizes[self.probe_subjects] - (self.twins >= 0)
        return others

    def counts(self) -> tuple[int, int]:
        """How many genuine and impostor pairs there are."""
        genuine = int(self.mates().sum())
        everything = len(self.reference_subjects) * len(self.probe_subjects) - int((self.twins >= 0).sum())
        sides = 2 if self.once else 1
        return genuine // sides, (everything - genuine) // sides

    def weighted_impostors(self, weights: np.ndarray) -> float:
        """The weight of all impostor pairs, each the product of its two people's. weights: float64 [people]."""
        enrolled, sought = (
            np.bincount(side, minlength=self.people) for side in (self.reference_subjects, self.probe_subjects)
        )
        everything = (weights @ enrolled) * (weights @ sought) - np.square(weights) @ (enrolled * sought)
        return float(everything) / (2 if self.once else 1)


def with_distractors(reference: EmbeddingTable, distractors: EmbeddingTable) -> EmbeddingTable:
    """The references and, behind them, faces of people whom no probe shows. Their names are set apart, as those of
    another data set may mean somebody else; a column that only one of them has is left out."""
    return EmbeddingTable(
        [*reference.ids, *(DISTRACTOR + name for name in distractors.ids)],
        [*reference.subjects, *(DISTRACTOR + name for name in distractors.subjects)],
        np.concatenate([reference.vectors, distractors.vectors]),
        {
            name: np.concatenate([values, distractors.columns[name]])
            for name, values in reference.columns.items()
            if name in distractors.columns
        },
    )


def check_tables(reference: EmbeddingTable, probe: EmbeddingTable) -> None:
    """Raises OccframeError: a table is empty, holds NaN or infinity, or the dimensions differ."""
    for name, table in (("reference", reference), ("probe", probe)):
        if not len(table.ids):
            raise OccframeError(f"the {name} table has no embeddings", remedy="check the data set and its split")
        finite = np.isfinite(table.vectors).all(axis=1)
        if not finite.all():
            first = table.ids[int(np.argmin(finite))]
            raise OccframeError(
                f"{int((~finite).sum())} of {finite.size} {name} embeddings are NaN or infinite, e.g. of {first!r}",
                remedy="look at the model (a diverged training?) and at that picture, then embed again",
            )
    if reference.vectors.shape[1] != probe.vectors.shape[1]:
        raise OccframeError(
            f"references have {reference.vectors.shape[1]} dimensions, probes {probe.vectors.shape[1]}",
            remedy="embed both with the same model",
        )


def _texts(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    return np.concatenate([np.asarray(first, str), np.asarray(second, str)])
