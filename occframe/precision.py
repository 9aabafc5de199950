"""Number formats of the forward pass, chosen once for training and for embedding."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from occframe.errors import OccframeError

if TYPE_CHECKING:
    import torch

#: What a configuration may say; "auto" is the fastest format that keeps the accuracy on the device at hand.
Precision = Literal["auto", "fp32", "bf16", "fp16"]
ResolvedPrecision = Literal["fp32", "bf16", "fp16"]


def resolve_precision(name: Precision, device: str) -> ResolvedPrecision:
    """``auto`` becomes bf16 where the device computes it natively (CUDA from Ampere on, CPUs with AVX512-BF16, AMX or
    Arm's bf16), fp16 on older CUDA devices, else fp32. device: a torch device string.

    Raises OccframeError for fp16 anywhere but on CUDA: a CPU emulates it, many times slower than fp32.
    """
    import torch

    on_cuda = torch.device(device).type == "cuda"
    if name == "auto":
        if on_cuda:
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if torch.device(device).type == "cpu" and _cpu_computes_bf16() else "fp32"
    if name == "fp16" and not on_cuda:
        raise OccframeError(
            f"precision fp16 needs a CUDA device, this run is on {device}", remedy="use `precision: auto`, bf16 or fp32"
        )
    return name


def autocast(precision: ResolvedPrecision, device: str) -> torch.autocast:
    """The context in which a forward pass runs in ``precision``; it does nothing for fp32."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=precision != "fp32")


@cache
def _cpu_computes_bf16() -> bool:
    # torch's own question differs between the versions we support; the kernel's answer does not.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "").split()
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
