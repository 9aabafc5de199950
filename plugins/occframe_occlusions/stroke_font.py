"""A small stroke font, drawn on a 4 x 6 grid, as tables of distances from its strokes."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

from occframe_occlusions.outlines import Atlas

HEIGHT = 6.0
_ADVANCE = 6.0
_STEP = 0.2  # between two entries of a table
_MARGIN = 1.5

# Strokes are separated by blanks; each is a line through points written xy, y downwards.
_GLYPHS = {
    "A": "062046 1434", "B": "06003041423303 3344453606", "C": "4130100105163645", "D": "06003041453606",
    "E": "40000646 0333", "F": "400006 0333", "G": "41301001051636454323", "H": "0006 4046 0343",
    "I": "1030 2026 1636", "J": "404536160504", "K": "0006 400346", "L": "000646", "M": "0600234046",
    "N": "06004640", "O": "100105163645413010", "P": "06003041423303", "Q": "100105163645413010 2446",
    "R": "06003041423303 2346", "S": "413010010213334445361605", "T": "0040 2026", "U": "000516364540",
    "V": "002640", "W": "0016233640", "X": "0046 4006", "Y": "002340 2326", "Z": "00400646",
    "0": "100105163645413010 4105", "1": "112026 1636", "2": "01103041420646", "3": "01103041423313 334445361605",
    "4": "36300444", "5": "400003334445361605", "6": "4130100105163645443303", "7": "004016",
    "8": "130201103041423313 1304051636454433", "9": "4313020110304145361605", " ": "", ".": "2626",
    ":": "2222 2626", "/": "0640", "-": "0343", "©": "100105163645413010 322213142434",
}  # fmt: skip


def text_width(text: str) -> float:
    return len(text) * _ADVANCE - (_ADVANCE - 4)


@lru_cache(maxsize=4)
def text_atlas(texts: tuple[str, ...]) -> Atlas:
    """Distances from the middle of the strokes of each text; its first letter's top left corner is the origin."""
    right = max(text_width(text) for text in texts) + _MARGIN
    columns, rows = round((right + _MARGIN) / _STEP) + 1, round((HEIGHT + 2 * _MARGIN) / _STEP) + 1
    x = (np.arange(columns) * _STEP - _MARGIN)[None, :]
    y = (np.arange(rows) * _STEP - _MARGIN)[:, None]
    tables = []
    for text in texts:
        nearest = np.full((rows, columns), 9.0)
        for place, letter in enumerate(text):
            for stroke in _GLYPHS[letter].split():
                points = [(int(stroke[at]) + place * _ADVANCE, int(stroke[at + 1])) for at in range(0, len(stroke), 2)]
                for (x0, y0), (x1, y1) in pairwise(points):
                    dx, dy = x1 - x0, y1 - y0
                    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
                    away_x, away_y = x - x0 - along * dx, y - y0 - along * dy
                    nearest = np.minimum(nearest, np.sqrt(away_x * away_x + away_y * away_y))
        tables.append(nearest)
    table = torch.from_numpy(np.rint(np.concatenate(tables) * 2**12) / 2**12).float()
    box = (-_MARGIN, -_MARGIN, (columns - 1) * _STEP - _MARGIN, (rows - 1) * _STEP - _MARGIN)
    return Atlas(table[None, None], box, rows)
