"""Open-set identification and distractors against loops written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe.evaluation.configs import IdentificationConfig, OpenSetConfig
from occframe.evaluation.distractors import distractor_trials
from occframe.evaluation.identification_protocol import Identification
from occframe.evaluation.open_set_protocol import OpenSet
from occframe.evaluation.tables import PairSpace, with_distractors
from occframe.types import EmbeddingTable, ProtocolResult


def table(people: range, pictures: range, noise: float = 0.8, prefix: str = "") -> EmbeddingTable:
    """A person's centre depends on the number alone, a picture on both numbers."""
    rows = [(person, picture) for person in people for picture in pictures]
    vectors = np.array(
        [
            np.random.default_rng(person).normal(size=8)
            + noise * np.random.default_rng([person, picture]).normal(size=8)
            for person, picture in rows
        ],
        np.float32,
    )
    return EmbeddingTable(
        [f"{prefix}{person:03}/{picture}" for person, picture in rows],
        [f"{prefix}{person:03}" for person, _ in rows],
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def open_set(reference: EmbeddingTable, probe: EmbeddingTable, **options: object) -> ProtocolResult:
    return OpenSet(OpenSetConfig.model_validate(options)).evaluate(reference, probe, None)


@given(st.integers(1, 3), st.floats(0.2, 2.0), st.sampled_from([0.5, 0.25, 0.1]))
@settings(max_examples=20, deadline=None)
def test_rates_are_those_counted(rank: int, noise: float, fpir: float) -> None:
    """Ten people are enrolled with two pictures, of twenty probes each the other ten are strangers."""
    reference = table(range(10), range(2), noise)
    probe = table(range(20), range(2, 4), noise)
    result = open_set(reference, probe, enrolled=None, rank=rank, fpirs=[fpir], rounds=0)
    assert result.counts == {"known probes": 20, "strangers' probes": 20, "references": 20, "people enrolled": 10}
    scores = probe.vectors @ reference.vectors.T
    known, strangers = scores[:20], scores[20:].max(axis=1)
    right = np.array(reference.subjects) == np.array(probe.subjects[:20])[:, None]
    mate = np.where(right, known, -np.inf).max(axis=1)
    found = (known > mate[:, None]).sum(axis=1) < rank

    def rates(threshold: float) -> tuple[float, float]:
        return float((strangers >= threshold).mean()), float((found & (mate >= threshold)).mean())

    levels = [np.inf, *mate, *strangers]
    best = max(rates(level)[1] for level in levels if rates(level)[0] <= fpir)
    assert result.metrics[f"dir@fpir={fpir:.1e}".replace(".0e-0", "e-").replace("e-0", "e-")] == pytest.approx(best)
    curve = result.curves["DIR-FPIR"]
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (0, 1, pytest.approx(found.mean()))
    assert curve.supported == (1 / 20, 1.0)
    assert {rates(level) for level in mate[found]} <= {*zip(curve.x.tolist(), curve.y.tolist(), strict=True)}


def test_people_are_enrolled_by_name_whatever_the_order() -> None:
    faces = table(range(20), range(3))
    order = np.random.default_rng(1).permutation(60)
    shuffled = EmbeddingTable(
        [faces.ids[row] for row in order], [faces.subjects[row] for row in order], faces.vectors[order]
    )
    one, other = (open_set(item, item, fpirs=[0.1], rounds=50) for item in (faces, shuffled))
    assert one.counts == {"known probes": 30, "strangers' probes": 30, "references": 30, "people enrolled": 10}
    assert one.metrics == other.metrics
    assert one.intervals["dir@fpir=1e-1"].low == pytest.approx(other.intervals["dir@fpir=1e-1"].low, abs=1e-6)
    assert one.intervals["dir@fpir=1e-1"].low <= one.metrics["dir@fpir=1e-1"] <= one.intervals["dir@fpir=1e-1"].high
    fewer = open_set(faces, faces, enrolled=0.2, fpirs=[0.1], rounds=0)
    assert fewer.counts["people enrolled"] == 4
    assert fewer.counts["strangers' probes"] == 48


def test_no_deeper_than_the_strangers_allow() -> None:
    faces = table(range(20), range(3))
    result = open_set(faces, faces, fpirs=[0.1, 0.01], rounds=0)
    assert "dir@fpir=1e-2" not in result.metrics
    assert any("30 probes of strangers say nothing about an FPIR below 3.3e-2" in note for note in result.notes)
    assert any("rests on the 3 highest scores" in note for note in result.notes)


def test_mistakes_are_what_the_threshold_lets_through() -> None:
    faces = table(range(20), range(3), noise=1.5)
    result = open_set(faces, faces, fpirs=[0.1], rounds=0, mistakes=5)
    threshold = result.metrics["threshold@fpir=1e-1"]
    subject = dict(zip(faces.ids, faces.subjects, strict=True))
    accepted = [mistake for mistake in result.mistakes if mistake.kind == "false accept"]
    assert [mistake.score for mistake in accepted] == sorted((mistake.score for mistake in accepted), reverse=True)
    assert len(accepted) == 3
    rejected = [mistake.score for mistake in result.mistakes if mistake.kind == "false reject"]
    assert rejected == sorted(rejected)
    assert len(rejected) == 5
    for mistake in result.mistakes:
        same = subject[mistake.reference_id] == subject[mistake.probe_id]
        assert same == (mistake.kind == "false reject")
        assert (mistake.score >= threshold) or same


def test_perfect_and_useless_systems() -> None:
    faces = table(range(10), range(3), noise=0.0)
    perfect = open_set(faces, faces, fpirs=[0.1], rounds=0)
    assert perfect.metrics["dir@fpir=1e-1"] == 1
    blind = replace(faces, vectors=np.tile(faces.vectors[:1], (30, 1)))
    assert open_set(blind, blind, fpirs=[0.1], rounds=0).metrics["dir@fpir=1e-1"] == 0


def test_sides_that_make_no_open_set() -> None:
    faces = table(range(6), range(3))
    with pytest.raises(OccframeError, match="none of the probes shows a stranger"):
        open_set(faces, faces, enrolled=None)
    with pytest.raises(OccframeError, match="none of the probes shows an enrolled person"):
        open_set(table(range(3), range(2)), table(range(3, 6), range(2)), enrolled=None)


# --- distractors ------------------------------------------------------------------------------------------------------


def test_a_mate_must_score_above_every_distractor() -> None:
    """MegaFace's way: one mate at a time among distractors only, never among other mates or other people."""
    probe = table(range(5), range(2), noise=1.2)
    reference = with_distractors(table(range(5), range(2, 4), noise=1.2), table(range(50, 60), range(3), prefix="x"))
    space = PairSpace(reference, probe)
    trials = distractor_trials(reference, probe, space, [30, 1, 7, 31])
    assert (list(trials.sizes), trials.available) == ([1, 7, 30], 30)
    assert trials.probe_rows.size == 5 * 2 * 2
    scores = probe.vectors @ reference.vectors.T
    people = np.array(reference.subjects)
    expected = [
        scores[row, mate] > scores[row, 10:].max()
        for row in range(10)
        for mate in np.flatnonzero(people == probe.subjects[row])
    ]
    assert trials.found[:, 2].mean() == np.mean(expected)
    assert (trials.found[:, 0] >= trials.found[:, 1]).all()  # the first are part of the more
    result = Identification(IdentificationConfig(distractors=[1, 30], rounds=40)).evaluate(reference, probe, None)
    assert result.metrics["rank-1@distractors=30"] == np.mean(expected)
    item = result.intervals["rank-1@distractors=30"]
    assert item.low <= np.mean(expected) <= item.high


def test_without_distractors_nothing_is_claimed() -> None:
    faces = table(range(5), range(3))
    result = Identification(IdentificationConfig(distractors=[10], rounds=0)).evaluate(faces, faces, None)
    assert not [name for name in result.metrics if "distractors" in name]
    assert "0 references show people of whom there is no probe" in result.notes[-1]


def test_ranks_have_intervals_and_trials() -> None:
    faces = table(range(12), range(3), noise=1.5)
    result = Identification(IdentificationConfig(rounds=50)).evaluate(faces, faces, None)
    assert result.intervals["rank-1"].low <= result.metrics["rank-1"] <= result.intervals["rank-1"].high
    assert result.trials is not None
    assert result.trials.correct.mean() == result.metrics["rank-1"]
