"""InsightFace's ``.bin`` sets: aligned pictures and labelled pairs in one file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from occframe.evaluation.insightface_bin import BinPairs
from occframe.preparation.faces import Picture


def pictures(packed: BinPairs) -> Iterator[Picture]:
    """Each picture once, its bytes as they are."""
    for name, encoded in packed.pictures.items():
        yield Picture(name, packed.subjects[name], encoded)


def pair_list(packed: BinPairs) -> str:
    """CSV as the protocol ``verification`` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id_a", "id_b", "same", "fold"])
    for row in zip(packed.first, packed.second, map(int, packed.same), packed.folds, strict=True):
        writer.writerow(row)
    return text.getvalue()
