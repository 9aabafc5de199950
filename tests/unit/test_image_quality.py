"""PSNR and SSIM against values worked out otherwise: by hand, by loops, and by what they must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occframe.errors import OccframeError
from occframe.evaluation.image_quality import MOST_DB, mean_db, psnr, ssim


def pictures(seed: int, count: int = 2, size: int = 24) -> Tensor:
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 3, size, size))
    return torch.from_numpy(drawn.astype(np.uint8))


def slow_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The map of Wang et al., pixel by pixel in values 0..255: a, b [H, W]."""
    place = np.arange(11) - 5.0
    window = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    height, width = a.shape[0] - 10, a.shape[1] - 10
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            first, second = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mean_a, mean_b = (window * first).sum(), (window * second).sum()
            var_a, var_b = (window * (first - mean_a) ** 2).sum(), (window * (second - mean_b) ** 2).sum()
            covariance = (window * (first - mean_a) * (second - mean_b)).sum()
            out[y, x] = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
                (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
            )
    return out


def grey(images: Tensor) -> np.ndarray:
    return np.einsum("bchw,c->bhw", images.double().numpy(), [0.299, 0.587, 0.114])


def test_psnr_of_a_known_difference() -> None:
    reference = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    images = reference.clone()
    images[1] += 10
    assert psnr(images, reference)[0] == math.inf
    assert psnr(images, reference)[1].item() == pytest.approx(20 * math.log10(255 / 10))
    assert mean_db(psnr(images, reference)) == pytest.approx((MOST_DB + 20 * math.log10(25.5)) / 2)


def test_psnr_sees_only_what_has_weight() -> None:
    reference = pictures(0)
    images, weights = reference.clone(), torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    images[0, :, :6] ^= 255
    weights[0, :, 6:] = True
    assert psnr(images, reference, weights)[0] == math.inf
    inverse = ~weights
    changed = psnr(images[:1], reference[:1], inverse[:1])
    assert changed.item() == pytest.approx(psnr(images[:1, :, :6], reference[:1, :, :6]).item())
    assert psnr(images, reference, weights)[1].isnan()
    assert mean_db(psnr(images, reference, weights)) == MOST_DB


@pytest.mark.parametrize("seed", [1, 2])
def test_ssim_is_that_of_the_paper(seed: int) -> None:
    reference = pictures(seed)
    images = (reference.double() * 0.7 + pictures(seed + 10).double() * 0.3).byte()
    expected = [slow_ssim(a, b) for a, b in zip(grey(images), grey(reference), strict=True)]
    assert ssim(images, reference).tolist() == pytest.approx([item.mean() for item in expected], abs=1e-9)
    weights = torch.zeros(2, 1, 24, 24)
    weights[:, :, 4:12, 7:20] = 1.0
    inside = [item[:7, 2:14].mean() for item in expected]
    weights[:, :, :, 19:] = 0.0
    assert ssim(images, reference, weights).tolist() == pytest.approx(inside, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_ssim_is_one_for_equal_pictures_and_symmetric(seed: int) -> None:
    first, second = pictures(seed, 1), pictures(seed + 1, 1)
    assert ssim(first, first).item() == pytest.approx(1)
    assert ssim(first, second).item() == pytest.approx(ssim(second, first).item())
    assert ssim(first, second).item() < 1


def test_bytes_and_floats_agree() -> None:
    first, second = pictures(3), pictures(4)
    floats = first.float() / 255, second.float() / 255
    assert psnr(first, second).tolist() == pytest.approx(psnr(*floats).tolist(), rel=1e-6)
    assert ssim(first, second).tolist() == pytest.approx(ssim(*floats).tolist(), rel=1e-5)


def test_images_that_cannot_be_compared() -> None:
    with pytest.raises(OccframeError, match="cannot be compared"):
        psnr(pictures(0), pictures(0).float())
    with pytest.raises(OccframeError, match="windows of 11 pixels"):
        ssim(pictures(0, size=8), pictures(1, size=8))
