"""The similarity transform behind alignment: algebra, and the landmarks it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe_aligners.arcface import TEMPLATE
from occframe_aligners.similarity import umeyama

angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 50.0)
shifts = st.floats(-5000.0, 5000.0)
seeds = st.integers(0, 2**32 - 1)


def similarity(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


def move(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return points @ transform[:, :2].T + transform[:, 2]


def noisy_face(seed: int, spread: float = 4.0) -> np.ndarray:
    return TEMPLATE + np.random.default_rng(seed).normal(0, spread, TEMPLATE.shape)


def umeyama_by_svd(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Equations 34 to 42 of the paper as they stand, in any dimension."""
    s, t = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / (s**2).sum() * len(s)
    return np.column_stack([scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)])


@given(scales, angles, shifts, shifts)
def test_recovers_the_transform_that_made_the_points(scale: float, angle: float, x: float, y: float) -> None:
    truth = similarity(scale, angle, x, y)
    found = umeyama(TEMPLATE, move(TEMPLATE, truth))
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-7)


@given(seeds)
def test_agrees_with_the_general_solution_of_the_paper(seed: int) -> None:
    source = noisy_face(seed)
    np.testing.assert_allclose(umeyama(source, TEMPLATE), umeyama_by_svd(source, TEMPLATE), atol=1e-9)


@given(seeds, scales, angles, shifts, shifts)
def test_a_moved_picture_aligns_to_the_same_place(seed: int, scale: float, angle: float, x: float, y: float) -> None:
    source = noisy_face(seed)
    moved = move(source, similarity(scale, angle, x, y))
    np.testing.assert_allclose(
        move(moved, umeyama(moved, TEMPLATE)), move(source, umeyama(source, TEMPLATE)), atol=1e-6
    )


@given(seeds, seeds)
def test_no_nearby_similarity_fits_better(seed: int, other: int) -> None:
    source = noisy_face(seed)
    best = umeyama(source, TEMPLATE)
    scale, angle, x, y = np.random.default_rng(other).normal(0, [0.05, 0.05, 1.0, 1.0])
    nearby = move(move(source, best), similarity(1 + scale, angle, x, y))
    assert ((move(source, best) - TEMPLATE) ** 2).sum() <= ((nearby - TEMPLATE) ** 2).sum() + 1e-9


@given(seeds)
def test_never_reflects(seed: int) -> None:
    transform = umeyama(noisy_face(seed, spread=8.0), TEMPLATE)
    assert np.linalg.det(transform[:, :2]) > 0


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((5, 2), 40.0), "one point"),
        (np.linspace([0, 0], [100, 30], 5), "on a line"),
        (np.where(np.arange(10).reshape(5, 2) == 3, np.nan, TEMPLATE), "not finite"),
        (np.where(np.arange(10).reshape(5, 2) == 3, np.inf, TEMPLATE), "not finite"),
        (TEMPLATE * [-1, 1], "mirrored"),
        (TEMPLATE[[1, 0, 2, 4, 3]], "mirrored"),
        (TEMPLATE[:4], r"\[4, 2\]"),
    ],
    ids=["one point", "line", "nan", "infinite", "mirrored picture", "left and right swapped", "four points"],
)
def test_points_that_are_no_face_are_refused(points: np.ndarray, reason: str) -> None:
    with pytest.raises(OccframeError, match=reason):
        umeyama(points, TEMPLATE)


def test_a_profile_is_still_a_face() -> None:
    """Eyes and mouth corners nearly above each other, even a little crossed, the nose ahead."""
    profile = np.array([[61.0, 52], [60, 51], [40, 72], [58, 92], [57, 93]])
    assert np.isfinite(umeyama(profile, TEMPLATE)).all()
