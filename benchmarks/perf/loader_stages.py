"""Where the time of the loader goes, from Parquet and from ``.rec``: images/s of every stage of one thread, and of the
whole loader with as many threads as there are cores.

A stage's figure is what one core could do if it did nothing else; "up to here" is what it does with the stages before.
Everything is the real loader with a clock around its parts: seconds of the thread, without those of stages within.
With ``--device cuda`` also pinning and transfer, and the loader with augmentation in its threads and on the device.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from loader import write_drawn_faces, write_rec

from occframe.component import OcclusionBlock
from occframe.data import FaceLoader, ParquetFaces, loader
from occframe.standalone import parse_block, standalone_context
from occframe_datasets.recordio import RecordIoFaces

_STAGES = ("read", "decode", "crop", "draw, flip", "occlude", "collate", "pin", "transfer")
_BATCH = 128
_THREADS = len(os.sched_getaffinity(0))


class Clock:
    """Seconds by stage. A stage that runs within another one does not count for that."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = threading.local()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            outer, self._open.inner = getattr(self._open, "inner", 0.0), 0.0
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.perf_counter() - start
                self.seconds[stage] += spent - self._open.inner
                self._open.inner = outer + spent

        return timed


def open_faces(path: Path) -> Any:
    return RecordIoFaces(str(path)) if path.suffix == ".rec" else ParquetFaces(str(path))


def generator(name: str) -> Any:
    context = standalone_context()
    return context.build(parse_block(OcclusionBlock, {"use": name}, context))


def make(
    faces: Any, occlusion: Any, threads: int, device: str, augment_on: Literal["workers", "device"] = "workers"
) -> FaceLoader:
    return FaceLoader(
        faces,
        height=112,
        width=112,
        batch_size=min(_BATCH, len(faces.ids)),
        threads=threads,
        seed=0,
        shuffle=True,
        flip=True,
        occlusion=occlusion,
        occlusion_probability=2 / 3,
        classes=sorted(set(faces.subjects)),
        drop_last=True,
        device=device,
        augment_on=augment_on,
    )


def epoch(made: FaceLoader) -> float:
    """Seconds."""
    start = time.perf_counter()
    for _ in made.epoch(0):
        pass
    if made.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def stages(path: Path, occlusion_name: str, device: str) -> tuple[dict[str, float], float]:
    """Microseconds an image by stage, and of the whole, in one thread."""
    clock, faces, occlusion = Clock(), open_faces(path), generator(occlusion_name)
    made = make(faces, occlusion, 1, device)
    for name in ("sample", "apply", "apply_"):
        if hasattr(occlusion, name):
            setattr(occlusion, name, clock.around("occlude", getattr(occlusion, name)))
    faces.read = clock.around("read", faces.read)
    augmentation = made._augmentation
    made._augmentation = clock.around("draw, flip", augmentation.__call__)
    made._augmentation.draw = clock.around("draw, flip", augmentation.draw)
    made._augmentation.begun = clock.around("draw, flip", augmentation.begun)
    made._batch = clock.around("collate", made._batch)
    with (
        patch.object(loader, "decode", clock.around("decode", loader.decode)),
        patch.object(loader, "fit", clock.around("crop", loader.fit)),
        patch.object(loader, "pinned", clock.around("pin", loader.pinned)),
        patch.object(loader, "moved", clock.around("transfer", loader.moved)),
    ):
        epoch(made)  # tables are drawn, files cached
        clock.seconds.clear()
        whole = epoch(made)
    images = made.batches_per_epoch * made.batch_size
    micro = {stage: clock.seconds[stage] / images * 1e6 for stage in _STAGES}
    return micro, whole / images * 1e6


def rate(path: Path, occlusion_name: str, device: str, augment_on: Literal["workers", "device"]) -> float:
    """Images/s of the loader with all cores, after an epoch that warms it up."""
    made = make(open_faces(path), generator(occlusion_name), _THREADS, device, augment_on)
    epoch(made)
    return made.batches_per_epoch * made.batch_size / epoch(made)


def measure(paths: dict[str, Path], occlusions: list[str], device: str, rounds: int) -> list[dict[str, Any]]:
    modes: list[Literal["workers", "device"]] = ["workers", "device"] if device != "cpu" else ["workers"]
    cases = [(source, occlusion) for occlusion in occlusions for source in paths]
    parts: dict[Any, list[tuple[dict[str, float], float]]] = defaultdict(list)
    rates: dict[Any, list[float]] = defaultdict(list)
    for _ in range(rounds):  # the sources take turns, since machines are shared
        for source, occlusion in cases:
            parts[source, occlusion].append(stages(paths[source], occlusion, device))
            for mode in modes:
                rates[source, occlusion, mode].append(rate(paths[source], occlusion, device, mode))
    rows = []
    for case in cases:
        micro = {stage: min(found[stage] for found, _ in parts[case]) for stage in _STAGES}
        whole = min(whole for _, whole in parts[case])
        loaders = {mode: {"best": max(rates[*case, mode]), "all": rates[*case, mode]} for mode in modes}
        rows.append(
            {
                "source": case[0],
                "occlusion": case[1],
                "us_per_image": micro,
                "one_thread_us": whole,
                "images_per_s": loaders,
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        whole = row["one_thread_us"]
        print(f"\n{row['source']}, {row['occlusion']}: one thread")
        print(f"{'stage':12}{'us/image':>10}{'images/s':>12}{'up to here':>12}{'share':>8}")
        reached = 0.0
        for stage, spent in [*row["us_per_image"].items(), ("hand over", whole - sum(row["us_per_image"].values()))]:
            if spent > 0.005:
                reached += spent
                print(f"{stage:12}{spent:10.2f}{1e6 / spent:12,.0f}{1e6 / reached:12,.0f}{spent / whole:8.1%}")
        for mode, found in row["images_per_s"].items():
            print(f"loader, {_THREADS} threads, augmentation by {mode}: {found['best']:,.0f} images/s")


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``.rec`` over Parquet, round by round."""
    by_source = {(row["source"], row["occlusion"]): row["images_per_s"]["workers"]["all"] for row in rows}
    found = []
    for occlusion in dict.fromkeys(row["occlusion"] for row in rows):
        pairs = zip(by_source[".rec", occlusion], by_source["Parquet", occlusion], strict=True)
        each = sorted(left / right for left, right in pairs)
        found.append({"occlusion": occlusion, "ratio": statistics.median(each), "low": each[0], "high": each[-1]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, one round: shows that it runs")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--device", default="cpu", help="that batches are moved to; cuda adds pinning and transfer")
    parser.add_argument("--occlusion", action="append", help="generators; rectangles and glasses if absent")
    arguments = parser.parse_args()
    occlusions = arguments.occlusion or ["rectangles", "glasses"]
    with tempfile.TemporaryDirectory() as folder:
        paths = {"Parquet": Path(folder) / "drawn.parquet", ".rec": Path(folder) / "drawn.rec"}
        write_drawn_faces(paths["Parquet"], 1000 if arguments.quick else 8000)
        write_rec(paths[".rec"], ParquetFaces(str(paths["Parquet"])))
        rows = measure(paths, occlusions, arguments.device, 1 if arguments.quick else 7)
    show(rows)
    over = ratios(rows)
    for row in over:
        print(f"\n.rec over Parquet, {row['occlusion']}: {row['ratio']:.3f} ({row['low']:.2f}..{row['high']:.2f})")
    if arguments.out:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        if arguments.device != "cpu":
            machine += f", {torch.cuda.get_device_name()}"
        facts = {"date": date.today().isoformat(), "machine": machine, "quick": arguments.quick, "threads": _THREADS}
        arguments.out.write_text(json.dumps(facts | {"rows": rows, "rec_over_parquet": over}, indent=2) + "\n")


if __name__ == "__main__":
    main()
