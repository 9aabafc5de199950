"""Random choices of a generator, named in the order they are made; each image's depend on its own seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from occframe.constants import constant
from occframe.random import uniform

_BLOCK = 32  # numbers hashed at once: one call a number would cost more than the hashing


class Draws:
    """Independent numbers for B images. seeds: [B] int64. purpose: keeps two generators with one seed apart."""

    def __init__(self, seeds: Tensor, purpose: int) -> None:
        self._seeds = seeds
        self._stream = purpose * 1000
        self._block: Sequence[Tensor] = ()
        self._at = 0

    def unit(self) -> Tensor:
        """[B] float32, uniform in [0, 1)."""
        if self._at == len(self._block):
            self._block, self._at = uniform(self._seeds, self._stream, _BLOCK).unbind(1), 0
            self._stream += 1
        self._at += 1
        return self._block[self._at - 1]

    def between(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        return self.unit() * (high - low) + low

    def signed(self, reach: float = 1.0) -> Tensor:
        """[B] in (-reach, reach), mostly near 0: the mean of two draws."""
        return (self.unit() + self.unit() - 1) * reach

    def whole(self, count: int) -> Tensor:
        """[B] int64 in 0..count-1."""
        return (self.unit() * count).long()

    def chance(self, probability: float | Tensor) -> Tensor:
        """[B] float32, 1 with this probability, else 0."""
        return (self.unit() < probability).float()

    def named(self, wanted: Sequence[str], names: Sequence[str]) -> Tensor:
        """[B] int64, places in ``names`` of one of ``wanted`` each, all with equal odds."""
        places = constant(tuple(names.index(name) for name in wanted), self.device, torch.int64)
        return places[self.whole(len(wanted))]

    def row(self, table: Sequence[Sequence[float]], pick: Tensor) -> Tensor:
        """Rows [B, C] of a table [N, C] of constants."""
        return constant(tuple(map(tuple, table)), pick.device)[pick]

    def seeds(self) -> Tensor:
        """[B] int64, fresh seeds for a part that draws for itself."""
        high, low = (self.unit() * 2**24).long(), (self.unit() * 2**24).long()
        return high << 24 | low

    @property
    def device(self) -> torch.device:
        return self._seeds.device
