"""Where the aligner puts landmarks and pixels."""

from __future__ import annotations

import numpy as np
import pytest

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe_aligners.arcface import TEMPLATE, ArcFaceAligner, template
from occframe_aligners.configs import ArcFaceConfig


def aligner(height: int = 112, width: int = 112) -> ArcFaceAligner:
    return ArcFaceAligner(ArcFaceConfig(height=height, width=width), BuildContext(PluginRegistry()))


def scene(height: int, width: int, wavelength: float) -> np.ndarray:
    """A smooth colour picture: waves along x in red, along y in green, across both in blue."""
    y, x = np.mgrid[:height, :width]
    return waves(np.stack([x, y], -1).astype(float), wavelength)


def waves(points: np.ndarray, wavelength: float) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    phases = 2 * np.pi / wavelength * np.stack([x, y, (x + y) / 2], -1)
    return np.rint(127.5 + 100 * np.sin(phases)).astype(np.uint8)


def face_in(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - 56) @ turn.T + [x, y]


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.9, 2.1, 3.5, 9.3])
def test_every_pixel_comes_from_where_the_transform_says(scale: float) -> None:
    """Also where the picture is averaged down first: half a pixel off would show on a slope of 100 levels a wave."""
    wavelength = 60 * scale
    picture = scene(1500, 1500, wavelength)
    face = aligner().align(picture, face_in(scale, 0.4, 750.0, 740.0))
    y, x = np.mgrid[:112, :112]
    inverse = np.linalg.inv(np.vstack([face.transform, [0, 0, 1]]))[:2]
    source = np.stack([x, y], -1) @ inverse[:, :2].T + inverse[:, 2]
    np.testing.assert_allclose(face.image.astype(int), waves(source, wavelength).astype(int), atol=3)


def test_fine_texture_averages_out_instead_of_aliasing() -> None:
    picture = np.zeros((1200, 1200, 3), np.uint8)
    picture[::2, ::2] = picture[1::2, 1::2] = 255
    face = aligner().align(picture, face_in(8.0, 0.3, 600, 600))
    inside = face.image[20:92, 20:92].astype(int)
    assert abs(inside - 127).max() <= 12


def test_landmarks_land_on_the_template() -> None:
    landmarks = face_in(2.2, -0.5, 300, 200)
    face = aligner().align(scene(400, 600, 50), landmarks.astype(np.float32))
    np.testing.assert_allclose(face.landmarks, TEMPLATE, atol=1e-3)
    np.testing.assert_allclose(landmarks @ face.transform[:, :2].T + face.transform[:, 2], face.landmarks, atol=1e-3)
    assert (face.image.shape, face.image.dtype) == ((112, 112, 3), np.uint8)
    assert (face.landmarks.dtype, face.transform.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize("scale", [0.7, 1.3, 4.0])
def test_112_by_96_is_the_middle_of_112_by_112(scale: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    landmarks = face_in(scale, 0.2, 450, 350)
    square, narrow = aligner().align(picture, landmarks), aligner(width=96).align(picture, landmarks)
    difference = np.abs(square.image[:, 8:104].astype(int) - narrow.image)
    # The same points are sampled; interpolation weights round differently in a few pixels of a thousand.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005
    np.testing.assert_allclose(narrow.landmarks, square.landmarks - [8, 0], atol=1e-3)


def test_the_template_scales_with_the_height_and_stays_in_the_middle() -> None:
    np.testing.assert_allclose(template(224, 224), TEMPLATE * 2)
    np.testing.assert_allclose(template(112, 96), TEMPLATE - [8, 0])
    np.testing.assert_allclose(template(56, 80).mean(0), TEMPLATE.mean(0) / 2 + [12, 0])


def test_an_upright_face_at_template_size_is_copied_exactly() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    face = aligner().align(picture, TEMPLATE + np.array([100, 40]))
    np.testing.assert_array_equal(face.image, picture[40:152, 100:212])


def test_a_face_outside_the_picture_is_black() -> None:
    picture = np.full((300, 300, 3), 200, np.uint8)
    for scale in (1.0, 6.0):
        assert aligner().align(picture, face_in(scale, 0, 5000, -5000)).image.max() == 0


def test_a_very_wide_picture() -> None:
    """OpenCV's warp addresses at most 32,767 pixels along a side in its older versions."""
    picture = np.full((120, 40_000, 3), 80, np.uint8)
    assert aligner().align(picture, face_in(1.0, 0, 39_000, 60)).image[60, 60].tolist() == [80, 80, 80]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
    ids=["grey", "four channels", "float", "empty"],
)
def test_another_kind_of_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(OccframeError, match=r"an image is \[H, W, 3\] uint8, this is"):
        aligner().align(image, TEMPLATE)
