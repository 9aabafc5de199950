"""A good matcher, and one for each promise that breaks it."""

from __future__ import annotations

import json

import numpy as np

from occframe import Config, Hits, OccframeError, hookimpl
from occframe.storage import exists, join, make_dirs, read_bytes, write_bytes


class NoOptions(Config):
    """Has none."""


class Good:
    """Brute force over a dictionary."""

    def __init__(self, config, context):
        self.device = context.device
        self.rows = {}

    def __len__(self):
        return len(self.rows)

    def add(self, ids, vectors):
        self.check(ids, vectors)
        self.rows.update(zip(ids, vectors.astype(np.float32), strict=True))

    def check(self, ids, vectors):
        if len(ids) != len(vectors) or len(set(ids)) < len(ids) or set(ids) & set(self.rows):
            raise OccframeError("ids do not fit")
        dim = len(next(iter(self.rows.values()))) if self.rows else vectors.shape[1]
        if vectors.shape[1] != dim or not np.isfinite(vectors).all():
            raise OccframeError("rows do not fit")

    def remove(self, ids):
        if set(ids) - set(self.rows):
            raise OccframeError("unknown id")
        for name in ids:
            del self.rows[name]

    def scores(self, query):
        return sorted((-float(np.float32(row.astype(np.float64) @ query)), name) for name, row in self.rows.items())

    def search(self, queries, k):
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), "", object)
        for number, query in enumerate(queries.astype(np.float64)):
            for rank, (score, name) in enumerate(self.scores(query)[:k]):
                scores[number, rank], ids[number, rank] = -score, name
        return Hits(scores, ids)

    def save(self, url):
        make_dirs(url)
        write_bytes(join(url, "rows.json"), json.dumps({k: v.tolist() for k, v in self.rows.items()}).encode())

    def load(self, url):
        if not exists(join(url, "rows.json")):
            raise OccframeError(f"no index at {url}")
        found = json.loads(read_bytes(join(url, "rows.json")))
        self.rows = {name: np.array(row, np.float32) for name, row in found.items()}


class FindsWhatBruteForceFinds(Good):
    def scores(self, query):
        return super().scores(query)[1:]


class ScoresDescend(Good):
    def search(self, queries, k):
        found = super().search(queries, k)
        return Hits(found.scores[:, ::-1].copy(), found.ids[:, ::-1].copy())


class TiesAreOrderedById(Good):
    def scores(self, query):
        return sorted(super().scores(query), key=lambda item: (item[0], [-ord(letter) for letter in item[1]]))


class KMayExceedTheRows(Good):
    def search(self, queries, k):
        found = super().search(queries, k)
        return Hits(np.where(np.isneginf(found.scores), np.float32(-1), found.scores), found.ids)


class EmptyIsEmpty(Good):
    def search(self, queries, k):
        if not len(queries):
            raise ValueError("no queries")
        return super().search(queries, k)


class Float16IsTaken(Good):
    def add(self, ids, vectors):
        if vectors.dtype == np.float16:
            vectors = np.round(vectors * 4).astype(np.float32) / 4
        super().add(ids, vectors)


class CompanyChangesNothing(Good):
    def search(self, queries, k):
        return super().search(queries - queries.mean(0) * (len(queries) > 1), k)


class InputIsUntouched(Good):
    def add(self, ids, vectors):
        self.check(ids, vectors)
        self.rows.update(zip(ids, vectors, strict=True))


class AddingIsVisibleAtOnce(Good):
    searched = False

    def search(self, queries, k):
        self.searched = True
        return super().search(queries, k)

    def add(self, ids, vectors):
        if not self.searched:
            super().add(ids, vectors)


class ATakenIdIsRefused(Good):
    def check(self, ids, vectors):
        super().check([f"{number}" for number in range(len(ids))], vectors)


class RemovingIsVisibleAtOnce(Good):
    def remove(self, ids):
        super().remove(ids[1:])


class AnUnknownIdIsRefused(Good):
    def remove(self, ids):
        for name in ids:
            self.rows.pop(name, None)


class BadRowsAreRefused(Good):
    def check(self, ids, vectors):
        if len(ids) != len(vectors) or len(set(ids)) < len(ids) or set(ids) & set(self.rows):
            raise OccframeError("ids do not fit")


class SaveAndLoadKeepEverything(Good):
    def load(self, url):
        before = self.rows
        super().load(url)
        self.rows = before | self.rows


class AReopenedIndexGoesOn(Good):
    def save(self, url):
        if not self.rows:
            raise ValueError("nothing to save")
        super().save(url)


class AMissingIndexIsAnError(Good):
    def load(self, url):
        if exists(join(url, "rows.json")):
            super().load(url)


class GpuEqualsCpu(Good):
    def scores(self, query):
        return super().scores(query)[(1 if self.device == "cuda" else 0) :]


BROKEN = {
    "finds_what_brute_force_finds": FindsWhatBruteForceFinds,
    "scores_descend": ScoresDescend,
    "ties_are_ordered_by_id": TiesAreOrderedById,
    "k_may_exceed_the_rows": KMayExceedTheRows,
    "empty_is_empty": EmptyIsEmpty,
    "float16_is_taken": Float16IsTaken,
    "company_changes_nothing": CompanyChangesNothing,
    "input_is_untouched": InputIsUntouched,
    "adding_is_visible_at_once": AddingIsVisibleAtOnce,
    "a_taken_id_is_refused": ATakenIdIsRefused,
    "removing_is_visible_at_once": RemovingIsVisibleAtOnce,
    "an_unknown_id_is_refused": AnUnknownIdIsRefused,
    "bad_rows_are_refused": BadRowsAreRefused,
    "save_and_load_keep_everything": SaveAndLoadKeepEverything,
    "a_reopened_index_goes_on": AReopenedIndexGoesOn,
    "a_missing_index_is_an_error": AMissingIndexIsAnError,
    "gpu_equals_cpu": GpuEqualsCpu,
}


@hookimpl
def occframe_register_matchers(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="brute force", caps={"gpu", "incremental", "delete"})
