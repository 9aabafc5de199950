"""An explanation as a picture: the face, what was masked, where the occlusion was seen, and who is nearest."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from occframe_from.explaining import Explanation, Match

_SCALE = 3  # of a face's pixels
_MARGIN, _LINE = 12, 22
_INK, _PAPER, _FRAME = (30, 30, 30), (255, 255, 255), (0, 176, 80)


def draw(
    face: np.ndarray, explanation: Explanation, matches: Sequence[Match] = (), faces: np.ndarray | None = None
) -> np.ndarray:
    """face: array [H, W, 3] uint8 RGB. faces: of the matches, [n, H, W, 3]. Returns a picture [h, w, 3] uint8 RGB."""
    shown = cv2.resize(face, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC)
    panels = [(shown, "face")]
    if explanation.heat is not None:
        low, high = float(explanation.heat.min()), float(explanation.heat.max())
        panels.append((_heated(shown, explanation.heat), f"features masked: {max(low, 0):.0%} to {max(high, 0):.0%}"))
    if explanation.pattern is not None or explanation.box is not None:
        panels.append((_framed(shown, explanation), _region_text(explanation)))
    columns = [_captioned(panel, text) for panel, text in panels]
    if matches:
        columns.append(_list(matches, columns[0].shape[0], faces))
    gap = np.full((columns[0].shape[0], _MARGIN, 3), _PAPER, np.uint8)
    row = np.concatenate([part for column in columns for part in (gap, column)] + [gap], axis=1)
    edge = np.full((_MARGIN, row.shape[1], 3), _PAPER, np.uint8)
    return np.concatenate([edge, row, edge])


def _heated(shown: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Red where most of the features was taken away, blue where least: relative, since masks differ in level."""
    span = max(float(heat.max() - heat.min()), 0.1)  # what is nearly the same everywhere shows no pattern
    relative = np.rint((heat - heat.min()) / span * 255).clip(0, 255).astype(np.uint8)
    smooth = cv2.resize(relative, shown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.cvtColor(cv2.applyColorMap(smooth, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(shown, 0.55, colours, 0.45, 0)


def _framed(shown: np.ndarray, explanation: Explanation) -> np.ndarray:
    if explanation.box is None:
        return shown
    left, top, right, bottom = (_SCALE * side for side in explanation.box)
    return cv2.rectangle(shown.copy(), (left, top), (right - 1, bottom - 1), _FRAME, 3)


def _region_text(explanation: Explanation) -> str:
    sure = "" if explanation.probability is None else f", {explanation.probability:.0%} sure"
    if explanation.box is None:
        return f"no occlusion seen{sure}"
    left, top, right, bottom = explanation.box
    return f"occluded: x {left}-{right}, y {top}-{bottom}{sure}"


def _captioned(panel: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((_LINE + 6, panel.shape[1], 3), _PAPER, np.uint8)
    _write(strip, text, _LINE - 4)
    return np.concatenate([panel, strip])


def _list(matches: Sequence[Match], height: int, faces: np.ndarray | None) -> np.ndarray:
    sheet = np.full((height, 340, 3), _PAPER, np.uint8)
    _write(sheet, "nearest in the gallery (cosine)", _LINE - 4)
    shown = matches[: height // _LINE - 1]
    tall = _LINE if faces is None else (height - _LINE) // len(shown)
    for number, match in enumerate(shown):
        top, left = _LINE + number * tall, 1
        if faces is not None:
            side = min(tall - 2, 112)
            across = side * faces.shape[2] // faces.shape[1]
            sheet[top : top + side, left : left + across] = cv2.resize(
                faces[number], (across, side), interpolation=cv2.INTER_AREA
            )
            left += across + _MARGIN // 2
        _write(sheet[:, left:], f"{match.cosine:.3f}  {match.subject}  ({match.id})", top + min(tall, 112) // 2 + 7)
    return sheet


def _write(sheet: np.ndarray, text: str, baseline: int) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's built-in font has no other letters
    scale = 0.5
    (width, _), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (sheet.shape[1] - 2) / max(width, 1))
    cv2.putText(sheet, plain, (1, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
