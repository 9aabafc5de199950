"""Two sides of one comparison, interleaved in one run: machines are shared and noisy, so only the ratio is quoted.

A benchmark file defines ``compare(quick: bool) -> list[Comparison]`` and ends with ``main(compare)``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """ours, theirs: best figure of a side, in ``unit``. ratio: ours over theirs, median of the rounds."""

    name: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    ratio_low: float
    ratio_high: float
    bar: str
    rounds: int


def interleave(
    name: str, ours: Callable[[], float], theirs: Callable[[], float], *, unit: str, bar: str, rounds: int
) -> Comparison:
    """Call both sides in turn, ``rounds`` times after one warm-up; each returns its figure in ``unit``."""
    ours(), theirs()
    pairs = []
    for turn in range(rounds):
        # The side that goes first changes, so that neither always inherits the other's warm caches.
        if turn % 2:
            right = theirs()
            pairs.append((ours(), right))
        else:
            left = ours()
            pairs.append((left, theirs()))
    ratios = sorted(left / right for left, right in pairs)
    higher_is_better = unit.endswith("/s")
    best = max if higher_is_better else min
    return Comparison(
        name=name,
        unit=unit,
        ours=best(left for left, _ in pairs),
        theirs=best(right for _, right in pairs),
        ratio=statistics.median(ratios),
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
        bar=bar,
        rounds=rounds,
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(
    compare: Callable[[bool], list[Comparison]], *, on_cuda: Callable[[bool], list[Comparison]] | None = None
) -> None:
    """Command line of a benchmark file: prints a table, and with ``--out FILE`` writes the figures as JSON.

    on_cuda: what ``--device cuda`` compares instead.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: shows that it runs")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    if on_cuda:
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what is measured")
    arguments = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if on_cuda and arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("--device cuda: torch finds no such device")
        compare, machine = on_cuda, f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {machine}"
    rows = compare(arguments.quick)
    print(f"{'':44} {'unit':>8} {'ours':>12} {'theirs':>12} {'ratio':>7}  {'spread':13} bar")
    for row in rows:
        spread = f"{row.ratio_low:.2f}..{row.ratio_high:.2f}"
        print(
            f"{row.name:44} {row.unit:>8} {row.ours:12.4g} {row.theirs:12.4g} {row.ratio:7.3f}  {spread:13} {row.bar}"
        )
    if arguments.out:
        result = {"date": date.today().isoformat(), "machine": machine, "quick": arguments.quick}
        arguments.out.write_text(json.dumps(result | {"rows": [asdict(row) for row in rows]}, indent=2) + "\n")
