"""The pictures of InsightFace's verification sets (``lfw.bin`` …); the protocol ``verification`` reads their pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from occframe import BuildContext
from occframe.data.byte_ranges import RangeFile
from occframe.data.stamps import stamp
from occframe.evaluation.insightface_bin import read_bin
from occframe_datasets.configs import InsightFaceBinConfig


class InsightFaceBin:
    """Fulfils ``Dataset``. ids: named by content, as the pairs of the same file name them. Kept in memory whole: the
    largest known set takes 0.1 GiB. Identities are known only as far as genuine pairs tie pictures together."""

    landmarks = None

    def __init__(self, url: str, *, aligned: bool = True) -> None:
        self.aligned = aligned
        self._file = RangeFile(url)
        packed = read_bin(url)
        self.ids: Sequence[str] = list(packed.pictures)
        self.subjects: Sequence[str] = [packed.subjects[name] for name in self.ids]
        self._pictures = list(packed.pictures.values())
        self.attributes: Mapping[str, np.ndarray] = {}
        self.blocks = [range(len(self.ids))]

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        return [self._pictures[row] for row in rows]

    def fingerprint(self) -> str:
        """From the file's size and time of change."""
        marks = f"{stamp(self._file.info)} {self.aligned}"
        return "insightface-bin-" + hashlib.blake2b(marks.encode(), digest_size=16).hexdigest()


def build(config: InsightFaceBinConfig, context: BuildContext) -> InsightFaceBin:
    return InsightFaceBin(config.url, aligned=config.aligned)
