"""The study of glasses removal on real faces: trains every row, measures it on synthetic and on real glasses.

    python -m benchmarks.glasses_study --shared ../shared [--rows paired-blend,unpaired] [--sheets /tmp/sheets]
    python -m benchmarks.glasses_study --shared ../shared --device cuda --jobs 4

Every training lies in a run directory of its own under ``runs/glasses-study``, every measured cell in a file or a step
of the suite's run: a second start goes on where the first ended, and computes nothing twice. Contact sheets show faces
and are written only where ``--sheets`` says. The result names environment, seeds, what was measured and what not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.glasses_cutouts import cut_outs
from benchmarks.glasses_data import cut_out
from benchmarks.glasses_paired import KINDS, PairedTest, as_bytes, gains, telea
from benchmarks.glasses_real import measured
from benchmarks.glasses_recipes import ABLATIONS, AFTERWARDS, ROWS, WHOLE, pipeline, recogniser_pipeline, rows_for
from benchmarks.glasses_wearers import wearers
from occframe.bench.suite import evaluation_step, expand, load_suite
from occframe.component import BuildContext
from occframe.gallery import Gallery
from occframe.generators import LoadedGenerator, generate_images, load_generator
from occframe.models import LoadedModel, load_model
from occframe.plugins import PluginRegistry
from occframe.rundir import environment
from occframe.types import EmbeddingTable
from occframe.yamlfile import dump_yaml, read_yaml

HERE = Path(__file__).resolve().parent
RUNS = Path("runs/glasses-study")
SEED = 1
BASELINE = "no-removal"
#: Sunglasses left as they are, thin frames looked for more sharply: an operator's choice where many wear glasses.
EYEGLASSES = {"refuse_sunglasses": True, "threshold": 0.2}


def occframe(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "occframe", *arguments], check=True)


def detector(build: BuildContext) -> LoadedModel:
    """The study's recogniser of glasses."""
    return load_model(str(RUNS / "glasses" / "glasses"), build, purpose="explain")


def train(rows: Sequence[str], shared: Path, device: str, jobs: int) -> None:
    """Trains the rows and the glasses recogniser, ``jobs`` at a time; a row that goes on from another, after it."""
    where: dict[str, Any] = {"data": RUNS / "data", "runs": RUNS, "seed": SEED}
    files = {"glasses": recogniser_pipeline(device=device, **where)}
    files |= {row: pipeline(row, shared=shared, device=device, **where) for row in rows}

    def run(name: str) -> None:
        file = RUNS / (f"{name}-{SEED}.yaml" if name in ROWS else f"{name}.yaml")
        file.write_text(dump_yaml(files[name]))
        occframe("run", str(file))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, [name for name in files if name not in AFTERWARDS]))
    build = BuildContext(PluginRegistry.discover())
    if "cut-outs" in rows:
        cut_outs(RUNS / "data", detector(build))
    if "wearers" in rows:
        recogniser = load_model(str(RUNS / f"{WHOLE}-{SEED}" / "recogniser"), build)
        wearers(shared, RUNS / "data", detector(build), recogniser)
    for name in AFTERWARDS:
        if name in files:
            run(name)


def paired(rows: Sequence[str], removers: dict[str, LoadedGenerator], test: PairedTest) -> dict[str, Any]:
    """Figures by remover and kind of glasses; ablations on clear and opaque ones alone."""
    found: dict[str, dict[str, Any]] = {}
    for name in (BASELINE, "telea", *rows):
        for kind in ("clear", "opaque") if name in ABLATIONS else KINDS:
            if (name, kind) != ("telea", "none"):
                remove = telea if name == "telea" else removers.get(name)
                found.setdefault(name, {})[kind] = test.cell(name, kind, remove)
                print(f"  {name}, {kind}: {found[name][kind]['psnr_inside'][0]:.1f} dB inside", flush=True)
    return found


def between_pictures(rows: Sequence[str], removers: dict[str, LoadedGenerator], test: PairedTest) -> dict[str, Any]:
    """What ``real`` measures, on synthetic glasses: a face with them against other pictures of the person, by kind."""
    found = {}
    for kind in (kind for kind in KINDS if kind != "none"):
        tables = {name: test.embedded(name, kind, removers.get(name)) for name in (BASELINE, *rows)}
        found[kind] = {name: ways["removed"] for name, ways in measured(tables, BASELINE, fused=()).items()}
        print(f"  between pictures, {kind}: measured", flush=True)
    return found


def real(rows: Sequence[str], shared: Path, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The suite's own result, and the figures before, after and fused."""
    suite = dict(read_yaml(HERE / "suites" / "glasses.yaml").value)
    base = dict(suite["systems"][BASELINE])
    base["weights"] = str(shared / "weights" / "mobilefacenet_casia_128d.safetensors")
    suite["systems"] = {BASELINE: base}
    suite["device"] = device
    for row in rows:
        removal: dict[str, Any] = {"generator": f"{RUNS / f'{row}-{SEED}'}/refined"}
        suite["systems"][f"{row}-forced"] = base | {"embed": {"removal": removal}}
        removal = removal | {"recogniser": f"{RUNS / 'glasses'}/glasses"}
        suite["systems"][row] = base | {"embed": {"removal": removal}}
        suite["systems"][f"{row}-eyeglasses"] = base | {"embed": {"removal": removal | EYEGLASSES}}
    (RUNS / "suite.yaml").write_text(dump_yaml(suite))
    occframe("bench", "run", str(RUNS / "suite.yaml"), "-o", str(RUNS / "suite.json"))
    registry = PluginRegistry.discover()
    steps = expand(load_suite(read_yaml(RUNS / "suite.yaml"), registry), "suite.yaml", registry).steps

    def tables(system: str) -> tuple[EmbeddingTable, EmbeddingTable]:
        cell = steps[evaluation_step(system, "glasses")].config
        (probe,) = cell.probes.values()
        worn, bare = (Gallery.open(str(RUNS / "suite" / step)).read() for step in (probe, cell.reference))
        return worn, bare

    result = json.loads((RUNS / "suite.json").read_text())
    return result, measured({system: tables(system) for system in suite["systems"]}, BASELINE)


def sheets(folder: Path, test: PairedTest, removers: dict[str, LoadedGenerator]) -> None:
    """Rows: glasses, Telea's way, each remover, the truth. For looking at, not for publishing."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        worn = test.worn(kind)[0]
        shown = slice(0, 16)
        rows = [worn.images[shown], telea(worn.images[shown], worn.inside[shown])] if kind != "none" else []
        rows += [as_bytes(generate_images(remover, worn.images[shown]).images).cpu() for remover in removers.values()]
        pictures = [np.concatenate(list(row.permute(0, 2, 3, 1).numpy()), axis=1) for row in (*rows, worn.clean[shown])]
        cv2.imwrite(str(folder / f"{kind}.png"), np.concatenate(pictures)[:, :, ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--rows", help="which rows to train and measure; if absent all that the device can train")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--no-training", action="store_true", help="measure what lies in runs/glasses-study as it is")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets; none are drawn without")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "glasses.json")
    arguments = parser.parse_args()
    rows = arguments.rows.split(",") if arguments.rows else rows_for(arguments.device)
    if unknown := set(rows) - ROWS.keys():
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    counts = cut_out(arguments.shared, RUNS / "data")
    if not arguments.no_training:
        train(rows, arguments.shared, arguments.device, arguments.jobs)

    build = BuildContext(PluginRegistry.discover(), device=arguments.device)
    removers = {row: load_generator(str(RUNS / f"{row}-{SEED}" / "refined"), build) for row in rows}
    whole = [row for row in rows if row not in ABLATIONS]
    suite, on_real = real(whole, arguments.shared, arguments.device)
    test = PairedTest(
        RUNS / "data" / "bare-test.parquet",
        RUNS / "cells",
        build,
        evaluator=load_model(str(RUNS / "suite" / f"model-{BASELINE}"), build),
        detector=detector(build),
    )
    on_pairs = paired(rows, removers, test)
    between = between_pictures(whole, removers, test)
    if arguments.sheets:
        sheets(arguments.sheets, test, removers)
    trained = {row: json.loads((RUNS / f"{row}-{SEED}" / "refined" / "model.json").read_text()) for row in rows}
    result = {
        "format": 1,
        "study": "glasses",
        "faces": counts,
        "paired": on_pairs,
        "paired_gains": gains(on_pairs, BASELINE),
        "paired_gains_over_telea": gains(on_pairs, "telea"),
        "between_pictures": between,
        "real": on_real,
        "real_suite": suite,
        "trained": {
            row: {
                "updates": card["extra"]["iterations"],
                "mode": card["extra"]["mode"],
                "generator": card["generator"],
                "device": read_yaml(RUNS / f"{row}-{SEED}" / "pipeline.resolved.yaml").value["device"],
                "changes": ROWS[row],
            }
            for row, card in trained.items()
        },
        "not_trained": sorted(set(ROWS) - set(rows)),
        "environment": environment() | {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
