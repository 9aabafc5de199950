"""The similarity transform (rotation, uniform scale, translation) that fits one set of points to another best."""

from __future__ import annotations

import numpy as np

from occframe.errors import OccframeError

# Landmarks of a face in full profile still spread about 0.3 as far across as along; detection noise on a line, 0.01.
_FLATTEST = 0.02
# A frontal face with left and right swapped fits its mirror image 4 to 5 times better, a noisy profile at most equally.
_MIRRORED = 2.0


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity transform from ``source`` to ``target``; reflections are excluded.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991. In the
    plane, with points as complex numbers, its equations 40 to 42 reduce to one division: scale times rotation is
    ``sum(conj(s) t) / sum(|s|^2)`` over the centred points.

    source, target: [N, 2] pixels, N >= 3, row i of one belonging to row i of the other.
    Returns [2, 3] float64, ``target ~ M[:, :2] @ source + M[:, 2]``.
    Raises OccframeError where the points determine no upright face: not finite, on one point, on a line, mirrored.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise OccframeError(f"landmarks are {list(source.shape)}, the template is {list(target.shape)}")
    if not np.isfinite(source).all():
        raise OccframeError("landmarks are not finite")
    s = source.astype(np.float64) @ (1, 1j)
    t = target.astype(np.float64) @ (1, 1j)
    centre_s, centre_t = s.mean(), t.mean()
    s, t = s - centre_s, t - centre_t
    _check_shape(s)
    energy = np.vdot(s, s).real
    turn = np.vdot(s, t) / energy
    if abs(np.sum(s * t)) / energy > _MIRRORED * abs(turn):
        raise OccframeError("landmarks are mirrored", remedy="give what is at the left of the picture first")
    shift = centre_t - turn * centre_s
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _check_shape(centred: np.ndarray) -> None:
    """The spread along and across the main direction, from the eigenvalues of the points' second moments."""
    mean = np.vdot(centred, centred).real / 2
    difference = abs(np.sum(centred * centred)) / 2
    along, across = np.sqrt(mean + difference), np.sqrt(max(mean - difference, 0.0))
    if along < 1e-3:
        raise OccframeError("landmarks all lie on one point")
    if across < _FLATTEST * along:
        raise OccframeError("landmarks lie on a line")
