from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe.data.fitting import fit, fit_points
from tests.pictures import noise

sides = st.integers(1, 60)


def test_the_narrow_aligned_crop_is_an_exact_cut():
    image = noise(112, 112)
    assert np.array_equal(fit(image, 112, 96), image[:, 8:104])
    assert fit(image, 112, 112) is image


@given(sides, sides, sides, sides)
def test_any_size_becomes_the_wanted_one(height, width, wanted_height, wanted_width):
    assert fit(noise(height, width), wanted_height, wanted_width).shape == (wanted_height, wanted_width, 3)


@pytest.mark.parametrize(("size", "wanted"), [((100, 100), (50, 50)), ((112, 92), (112, 96)), ((60, 90), (112, 96))])
def test_points_move_with_the_pixels(size, wanted):
    """A bright spot is found again where its landmark went."""
    point = np.array([[size[1] * 0.45, size[0] * 0.55]], np.float32)
    ys, xs = np.mgrid[: size[0], : size[1]]
    spot = 255 * np.exp(-((xs - point[0, 0]) ** 2 + (ys - point[0, 1]) ** 2) / 30)
    fitted = fit(np.repeat(spot[:, :, None], 3, 2).astype(np.uint8), *wanted)[:, :, 0].astype(float) ** 4
    ys, xs = np.mgrid[: wanted[0], : wanted[1]]
    centre = np.array([(fitted * xs).sum(), (fitted * ys).sum()]) / fitted.sum()
    moved = fit_points(point, size, *wanted)
    assert moved.dtype == np.float32
    assert np.abs(moved[0] - centre).max() < 0.15


def test_wide_pictures_lose_their_sides():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    assert (fit(image, 20, 20) > 180).all()
