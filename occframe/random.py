"""Randomness that depends on what is drawn for, never on when or where it is drawn.

A generator with a state gives image 7 another draw when the batch size, the number of threads or the device changes.
Here every number is a hash of (seed, stream, counter): the same bits on every machine, on CPU and CUDA, in any batch.
The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# 2^64 / golden ratio, and the two multipliers of the finaliser, as two's-complement int64.
_GOLDEN = -0x61C8864680B583EB
_MULTIPLY_1 = -0x40A7B892E31B1A47
_MULTIPLY_2 = -0x6B2FB644ECCEEE15


def derive_seed(*parts: int | str) -> int:
    """A seed in 0..2^63-1 for a purpose, e.g. ``derive_seed(run_seed, "train", "shuffle", epoch)``."""
    # Lengths keep ("ab", "c") and ("a", "bc") apart; the kind keeps 1 and "1" apart.
    tagged = (
        (f"s{part}" if isinstance(part, str) else f"i{int(part)}").encode("utf-8", "surrogatepass") for part in parts
    )
    text = b"".join(len(part).to_bytes(4, "little") + part for part in tagged)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def id_seeds(ids: Iterable[str]) -> np.ndarray:
    """One seed an id, from its text alone. Returns int64 [N]."""
    import numpy as np

    digests = (hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest() for item in ids)
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def mix(seed: int, epoch: int, id_seeds: np.ndarray) -> np.ndarray:
    """The seed of each image in an epoch: another one in every epoch and for every ``seed``. int64 [N] -> int64 [N]."""
    import numpy as np

    purpose = np.uint64(derive_seed(seed, epoch))
    return _finalise_array(id_seeds.astype(np.int64).view(np.uint64) ^ purpose).view(np.int64)


def uniform(seeds: Tensor, stream: int, count: int) -> Tensor:
    """``count`` independent numbers in [0, 1) for every seed.

    seeds: Tensor [B] int64, on any device. stream: which draw this is; two draws of one image need two streams.
    Returns float32 [B, count], multiples of 2^-24, so that ``(uniform * n).long()`` is below n for any n up to 2^24.
    """
    import numpy as np
    import torch

    purpose = derive_seed("stream", stream)
    if seeds.device.type == "cpu":  # the same bits in a sixth of the time: NumPy has unsigned shifts
        unsigned = _finalise_array(seeds.numpy().view(np.uint64) ^ np.uint64(purpose))
        counted = unsigned[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN % 2**64)
        return torch.from_numpy((_finalise_array(counted) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))
    return _uniform_anywhere(seeds, purpose, count)


def _uniform_anywhere(seeds: Tensor, purpose: int, count: int) -> Tensor:
    import torch

    counters = torch.arange(1, count + 1, dtype=torch.int64, device=seeds.device) * _GOLDEN
    return _shift_right(_finalise(_finalise(seeds ^ purpose)[:, None] + counters), 40).float() * 2.0**-24


def _finalise(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _MULTIPLY_1
    bits = (bits ^ _shift_right(bits, 27)) * _MULTIPLY_2
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Torch shifts int64 arithmetically; the hash needs zeros from the left."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _finalise_array(bits: np.ndarray) -> np.ndarray:
    import numpy as np

    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_MULTIPLY_1 % 2**64)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_MULTIPLY_2 % 2**64)
    finished: np.ndarray = bits ^ (bits >> np.uint64(31))
    return finished
