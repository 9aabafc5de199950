"""Where the time of training steps goes: a trace by torch's profiler, and a table of its parts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from occframe.step import StepContext
from occframe.storage import join, make_dirs, write_bytes

#: What ``record_function`` calls the parts of a step, wherever they run.
PARTS = ("loading", "transfer", "augmentation", "forward", "backward", "optimiser")
#: Steps that are let pass before those that are measured: kernels are chosen, memory is taken, networks are compiled.
_WARM_UP = 10
_MEASURED = 10


@dataclass(frozen=True)
class Share:
    """Of one part in a mean step. host: milliseconds of the thread that trains. device: of kernels and copies."""

    part: str
    host: float
    device: float


@contextmanager
def profiled_if(context: StepContext, steps: int, *, wanted: bool = True) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each of ``steps`` steps of a training. Where the run is to be profiled, some of
    them, after a warm-up, are written to ``profile/`` in the step's directory: ``trace.json`` (Chrome's format, for
    ui.perfetto.dev) and ``table.txt``; a note says so."""
    if not (context.profile and wanted and steps > 0):
        yield lambda: None
        return
    url = join(context.url, "profile")
    measured = max(1, min(_MEASURED, steps // 2))
    passed = max(0, min(_WARM_UP, steps - measured) - 1)
    activities = [ProfilerActivity.CPU]
    if torch.device(context.device).type == "cuda":
        activities.append(ProfilerActivity.CUDA)

    def write(made: profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trace.json"
            made.export_chrome_trace(str(file))
            data = file.read_bytes()
        table = as_text(shares(json.loads(data)["traceEvents"]))
        make_dirs(url)
        write_bytes(join(url, "trace.json"), data)
        write_bytes(join(url, "table.txt"), table.encode())
        context.note(f"profile of {measured} steps: {join(url, 'trace.json')} (open it in ui.perfetto.dev)\n{table}")

    with profile(
        activities=activities,
        schedule=schedule(wait=passed, warmup=1, active=measured, repeat=1),
        on_trace_ready=write,
    ) as running:
        yield running.step


def shares(events: Sequence[Mapping[str, Any]]) -> list[Share]:
    """Of all parts, of what else a step did, and of the whole step. events: of a Chrome trace, microseconds."""
    spans = [event for event in events if event.get("ph") == "X"]
    steps = [event for event in spans if event["name"].startswith("ProfilerStep#") and "gpu" not in event["cat"]]
    if not steps:
        return []
    thread = steps[0]["tid"]
    begin = min(step["ts"] for step in steps)
    end = max(step["ts"] + step["dur"] for step in steps)
    named = [
        event
        for event in spans
        if event["name"] in PARTS and event["cat"] == "user_annotation" and event["tid"] == thread
        if begin <= event["ts"] < end
    ]
    host = dict.fromkeys(PARTS, 0.0)
    for event in named:
        host[event["name"]] += event["dur"]
        outer = _innermost([other for other in named if other is not event], event["ts"])
        if outer is not None:  # augmentation on a CPU is a part of loading, for one
            host[outer["name"]] -= event["dur"]
    device = _on_device(spans, named, begin, end)
    whole = end - begin
    rest = Share("other", whole - sum(host.values()), device.pop("other"))
    parts = [*(Share(part, host[part], device[part]) for part in PARTS), rest]
    parts.append(Share("step", whole, sum(share.device for share in parts)))
    scale = 1e-3 / len(steps)
    return [Share(share.part, share.host * scale, share.device * scale) for share in parts]


def _on_device(
    spans: Sequence[Mapping[str, Any]], named: Sequence[Mapping[str, Any]], begin: float, end: float
) -> dict[str, float]:
    """Microseconds of kernels and copies by the part in which the host launched them."""
    found = dict.fromkeys((*PARTS, "other"), 0.0)
    launches = {
        event["args"]["correlation"]: event
        for event in spans
        if event["cat"] in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    # Those of the training and of its backward pass; the thread that feeds the device is not looked into.
    known = {event["tid"] for event in spans if event["cat"] == "cpu_op"}
    for event in spans:
        if event["cat"] not in ("kernel", "gpu_memcpy", "gpu_memset"):
            continue
        launch = launches.get(event["args"].get("correlation"))
        if launch is None or not begin <= launch["ts"] < end:
            continue
        if launch["tid"] not in known:
            part = "transfer" if event["cat"] == "gpu_memcpy" else "augmentation"
        else:
            inside = _innermost(named, launch["ts"])
            part = "other" if inside is None else inside["name"]
        found[part] += event["dur"]
    return found


def _innermost(events: Sequence[Mapping[str, Any]], moment: float) -> Mapping[str, Any] | None:
    around = [event for event in events if event["ts"] <= moment < event["ts"] + event["dur"]]
    return min(around, key=lambda event: event["dur"], default=None)


def as_text(parts: Sequence[Share]) -> str:
    """A table for a terminal; parts that took no time are left out."""
    if not parts:
        return "no whole step was measured\n"
    whole = parts[-1]
    on_device = whole.device > 0
    lines = [f"{'a step':14}{'host ms':>10}{'share':>8}" + (f"{'device ms':>12}{'share':>8}" if on_device else "")]
    for share in parts:
        if share.host < 0.0005 and share.device < 0.0005:
            continue
        line = f"{share.part:14}{share.host:10.3f}{share.host / whole.host:8.1%}"
        if on_device:
            line += f"{share.device:12.3f}{share.device / whole.device:8.1%}"
        lines.append(line)
    return "\n".join(lines) + "\n"
