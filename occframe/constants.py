"""Tables of numbers where they are needed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=1024)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A table of numbers, copied to each device once: a copy waits until the GPU has done all that it was asked for."""
    with torch.inference_mode(False):  # or it would be of no use outside it
        return torch.tensor(values, dtype=dtype, device=device)
