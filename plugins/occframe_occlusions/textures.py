"""Noise that every image cuts its grain, folds and stains from: fixed tables without seams, equal on all machines."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from occframe.random import derive_seed, uniform

_SIDE = 512


def _white(name: str, side: int) -> Tensor:
    seeds = torch.arange(side, dtype=torch.int64) + derive_seed("occlusion texture", name) % 2**40
    return uniform(seeds, 0, side)


def _enlarged(small: Tensor) -> Tensor:
    """A seamless [n, n] table enlarged to [_SIDE, _SIDE], eased between its entries."""
    for dim in (0, 1):
        count = small.shape[dim]
        position = torch.arange(_SIDE, dtype=torch.float32) * (count / _SIDE)
        first = position.long()
        place = position - first
        place = place * place * (3 - 2 * place)
        place = place[:, None] if dim == 0 else place[None, :]
        after = small.index_select(dim, (first + 1) % count)
        small = small.index_select(dim, first)
        small = small + (after - small) * place
    return small


def _blurred(table: Tensor) -> Tensor:
    for dim in (0, 1):
        table = (table.roll(1, dim) + table.roll(-1, dim) + table * 2) * 0.25
    return table


@lru_cache(maxsize=1)
def _tables() -> dict[str, Tensor]:
    grain = _white("grain 1", _SIDE) + _white("grain 2", _SIDE) + _white("grain 3", _SIDE) - 1.5  # variance 1/4
    clouds = torch.zeros(_SIDE, _SIDE)
    for octave, cells in enumerate((8, 16, 32, 64, 128)):
        clouds = clouds + (_enlarged(_white(f"clouds {octave}", cells)) - 0.5) * 0.5**octave
    soft_grain = _blurred(_blurred(grain))
    return {
        "grain": grain * 2,
        # Blurring by (1 2 1)/4 twice in both directions leaves 35/128 of the variance in each.
        "soft grain": soft_grain * (2 * 128 / 35),
        "clouds": clouds * 1.4,
        "waves": (_enlarged(_white("waves", 32)) - 0.5) * 2,
    }


@lru_cache(maxsize=16)
def _table(name: str, device: torch.device) -> Tensor:
    # First asked for in inference mode it would be of no use outside it.
    with torch.inference_mode(False):
        return _tables()[name].flatten().to(device)


def texture(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The table's value at x, y (broadcastable to [B, h, w]; 512 is one repetition), without interpolation.

    "grain": each entry by itself, mean 0, variance 1. "soft grain": the same as a camera's demosaicing leaves it.
    "clouds": stains of all sizes, within -1..1. "waves": bumps 16 entries apart, within -1..1.
    """
    index = (y.floor().int() & (_SIDE - 1)) * _SIDE + (x.floor().int() & (_SIDE - 1))
    return _table(name, x.device).index_select(0, index.flatten()).view(index.shape)
