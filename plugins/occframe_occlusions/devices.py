"""What a GPU would do otherwise than a CPU, or would have to be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_recording = ContextVar("recording", default=False)


def may_look(values: Tensor) -> bool:
    """Whether values may be looked at, to leave out what none of them asks for: not on a GPU, which would have to be
    waited for, and not where operations are recorded for any values."""
    return values.device.type == "cpu" and not _recording.get()


@contextmanager
def recording() -> Iterator[None]:
    """Within it nobody looks at values."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


@lru_cache(maxsize=1024)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A table of numbers, copied to each device once: a copy waits until the GPU has done all that it was asked for."""
    with torch.inference_mode(False):  # or it would be of no use outside it
        return torch.tensor(values, dtype=dtype, device=device)


def divided(values: Tensor, by: float) -> Tensor:
    """values / by, with the same bits everywhere: by a plain number CUDA multiplies with 1 / by instead."""
    return values / torch.full((), by, dtype=values.dtype, device=values.device)
