from __future__ import annotations

import pytest
import torch

from occframe import precision
from occframe.errors import OccframeError
from occframe.precision import autocast, resolve_precision


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\n", "bf16"),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f\n", "fp32"),
        ("processor : 0\nFeatures\t: fp asimd bf16\n", "bf16"),
        ("", "fp32"),
        (None, "fp32"),
    ],
)
def test_auto_on_a_cpu_asks_whether_bf16_is_native(monkeypatch, cpuinfo, expected):
    def read_text(path):
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(precision.Path, "read_text", read_text)
    precision._cpu_computes_bf16.cache_clear()
    try:
        assert resolve_precision("auto", "cpu") == expected
    finally:
        precision._cpu_computes_bf16.cache_clear()


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_cuda(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert resolve_precision("auto", "cuda:1") == expected


def test_fp16_without_cuda_is_refused():
    with pytest.raises(OccframeError, match="precision fp16 needs a CUDA device, this run is on cpu"):
        resolve_precision("fp16", "cpu")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_that_format(name, dtype):
    with autocast(name, "cpu"):
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == dtype
