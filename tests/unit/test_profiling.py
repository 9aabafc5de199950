from __future__ import annotations

from typing import Any

import pytest

from occframe.training.profiling import PARTS, as_text, shares

TRAINS, BACKWARD, FEEDS = 1, 2, 3  # threads of a training on CUDA


def span(
    name: str, begin: float, length: float, *, cat: str = "user_annotation", tid: Any = TRAINS, **args: Any
) -> Any:
    return {"ph": "X", "name": name, "cat": cat, "ts": begin, "dur": length, "tid": tid, "args": args}


def kernel(number: int, launched: float, length: float, *, tid: int = TRAINS, cat: str = "kernel") -> list[Any]:
    """A launch on the host, and what it made the device do a little later."""
    launch = span("cudaLaunchKernel", launched, 5, cat="cuda_runtime", tid=tid, correlation=number)
    return [launch, span(f"kernel {number}", launched + 40_000, length, cat=cat, tid="stream 7", correlation=number)]


def two_steps() -> list[Any]:
    events = [{"ph": "M", "name": "process_name", "args": {}}]
    for at in (1_000, 11_000):
        events += [
            span(f"ProfilerStep#{at}", at, 10_000),
            span(f"ProfilerStep#{at}", at + 40_000, 10_000, cat="gpu_user_annotation", tid="stream 7"),
            span("loading", at + 100, 4_000),
            span("augmentation", at + 200, 1_000),  # within loading, as on a CPU
            span("forward", at + 5_000, 2_000),
            span("backward", at + 7_000, 2_000),
            span("optimiser", at + 9_000, 500),
            span("aten::conv2d", at + 5_100, 100, cat="cpu_op"),
            span("ConvolutionBackward0", at + 7_100, 100, cat="cpu_op", tid=BACKWARD),
            *kernel(at + 1, at + 5_100, 3_000),
            *kernel(at + 2, at + 7_100, 6_000, tid=BACKWARD),
            *kernel(at + 3, at + 300, 200, tid=FEEDS, cat="gpu_memcpy"),
            *kernel(at + 4, at + 400, 700, tid=FEEDS),
            *kernel(at + 5, at + 9_900, 50),
        ]
    return events + kernel(9, 900, 77_000) + [span("loading", 500, 400)]  # before the first whole step


def test_time_is_shared_out_by_part_on_the_host_and_on_the_device() -> None:
    found = {share.part: (share.host, share.device) for share in shares(two_steps())}
    assert found == {
        "loading": (3.0, 0.0),
        "transfer": (0.0, 0.2),
        "augmentation": (1.0, pytest.approx(0.7)),
        "forward": (2.0, 3.0),
        "backward": (2.0, 6.0),
        "optimiser": (0.5, 0.0),
        "other": (pytest.approx(1.5), 0.05),
        "step": (10.0, pytest.approx(9.95)),
    }


def test_the_table_leaves_out_what_took_no_time_and_a_device_that_did_nothing() -> None:
    table = as_text(shares(two_steps())).splitlines()
    assert table[0].split() == ["a", "step", "host", "ms", "share", "device", "ms", "share"]
    assert table[3].split() == ["augmentation", "1.000", "10.0%", "0.700", "7.0%"]
    assert table[-1].split() == ["step", "10.000", "100.0%", "9.950", "100.0%"]
    host = [event for event in two_steps() if event.get("cat") == "user_annotation"]
    table = as_text(shares(host)).splitlines()
    assert [line.split()[0] for line in table[1:]] == [*(part for part in PARTS if part != "transfer"), "other", "step"]
    assert "device" not in table[0]
    assert as_text(shares([])) == "no whole step was measured\n"
