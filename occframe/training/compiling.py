"""``torch.compile`` for a network in training."""

from __future__ import annotations

import torch
from torch import nn

from occframe.errors import OccframeError, first_line


def compile_in_place(network: nn.Module, device: str) -> None:
    """From its next call on ``network`` runs as fused kernels, made in minutes on the first one; its weights, their
    names and what it gives stay what they are, to rounding.

    Raises OccframeError where this machine has no compiler that makes kernels for ``device``.
    """
    try:
        torch.compile(lambda values: values * 2 + 1)(torch.zeros(4, device=device))
    except Exception as error:  # torch, inductor, Triton and the C++ compiler each have classes of their own
        raise OccframeError(
            f"torch.compile does not work here for {device}: {first_line(error)}",
            remedy="install a C++ compiler such as g++, on a GPU Triton too; or leave out `compile: true`",
        ) from error
    network.compile()
