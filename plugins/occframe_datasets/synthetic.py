"""Drawn people: no download, deterministic, with landmarks and eyes that no glasses cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch

from occframe import BuildContext
from occframe.random import derive_seed, uniform
from occframe_datasets.configs import SyntheticConfig
from occframe_datasets.drawing import Moment, Person, draw_face

_VERSION = 1  # of the drawings; raise it when they change
_KEPT_BYTES = 256 << 20


class SyntheticFaces:
    """Fulfils ``Dataset``. A picture depends on seed, person and number alone, not on how many there are."""

    aligned = True

    def __init__(self, identities: int, images: int, size: int, seed: int) -> None:
        self._images, self._size, self._seed = images, size, seed
        self.ids = [f"person-{person}/{image}" for person in range(identities) for image in range(images)]
        self.subjects = [f"person-{person}" for person in range(identities) for _ in range(images)]
        self.attributes: Mapping[str, np.ndarray] = {}
        self.blocks: Sequence[range] = [range(len(self.ids))]
        # Later epochs of a training should not wait for the painter.
        self._drawn = lru_cache(maxsize=_KEPT_BYTES // (size * size * 3))(self._draw)

    def __reduce__(self) -> tuple[object, ...]:
        people = len(self.ids) // self._images
        return SyntheticFaces, (people, self._images, self._size, self._seed)

    @cached_property
    def landmarks(self) -> np.ndarray:
        return np.stack([self._drawn(row)[1] for row in range(len(self.ids))])

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        return [self._drawn(row)[0] for row in rows]

    def fingerprint(self) -> str:
        people = len(self.ids) // self._images
        return f"synthetic-{_VERSION} {people} x {self._images}, {self._size} pixels, seed {self._seed}"

    def _draw(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        number, image = divmod(row, self._images)
        person = Person.from_draws(_draws(derive_seed("person", self._seed, number), Person.DRAWS))
        shot = derive_seed("picture", self._seed, number, image)
        moment = Moment.from_draws(_draws(shot, Moment.DRAWS))
        grain = np.random.Generator(np.random.Philox(shot)).random((self._size, self._size), np.float32)
        picture, landmarks = draw_face(person, moment, self._size, grain)
        picture.flags.writeable = False  # it is handed out more than once
        return picture, landmarks


def _draws(seed: int, count: int) -> np.ndarray:
    return uniform(torch.tensor([seed]), 0, count)[0].double().numpy()


def build(config: SyntheticConfig, context: BuildContext) -> SyntheticFaces:
    return SyntheticFaces(config.identities, config.images, config.size, config.seed)
