"""``torch.compile`` for what runs at every step of a training."""

from __future__ import annotations

from typing import Any

import torch

from occframe.errors import OccframeError, first_line


def compile_in_place(device: str, *networks: Any) -> None:
    """From their next calls on ``networks`` run as fused kernels, made in minutes on the first ones; their weights, the
    names of these and what they give stay what they are, to rounding.

    networks: each an ``nn.Module``, or an occlusion generator, which is left as it is if it does not offer ``compile``.
    Raises OccframeError where this machine has no compiler that makes kernels for ``device``.
    """
    try:
        torch.compile(lambda values: values * 2 + 1)(torch.zeros(4, device=device))
    except Exception as error:  # torch, inductor, Triton and the C++ compiler each have classes of their own
        raise OccframeError(
            f"torch.compile does not work here for {device}: {first_line(error)}",
            remedy="install a C++ compiler such as g++, on a GPU Triton too; or leave out `compile: true`",
        ) from error
    for network in networks:
        if hasattr(network, "compile"):
            network.compile()
