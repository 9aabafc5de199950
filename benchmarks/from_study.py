"""The study of FROM on real faces: trains every row, measures all of them on ``suites/from.yaml``, with intervals.

    python -m benchmarks.from_study --shared ../shared [--rows augmented,from] [--seeds 3] [--epochs 4]
    python -m benchmarks.from_study --shared ../shared --device cuda --jobs 10 --epochs 12 --batch-size 256 --lr 0.03

Every training and every cell lies in a run directory of its own under ``runs/from-study``: a second start goes on where
the first ended, and computes nothing twice. The result file is written after each system that is done, with several
jobs after the last; it names environment, seeds, what was measured and what not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.teacher_memory import remembered
from occframe.bench.suite import evaluation_step
from occframe.component import BuildContext
from occframe.config import load_pipeline
from occframe.evaluation.ids import LfwImage
from occframe.evaluation.pairs import parse_pairs
from occframe.evaluation.results import load_evaluation
from occframe.evaluation.significance import compare_results
from occframe.machine import usable_cores
from occframe.models import embed_images, load_model
from occframe.pipeline import Runner
from occframe.plugins import PluginRegistry
from occframe.types import Interval, ProtocolResult
from occframe.yamlfile import dump_yaml, read_yaml

HERE = Path(__file__).resolve().parent
RUNS = Path("runs/from-study")
TRUNK = {"use": "mobilefacenet", "preset": "foamliu"}
FROM = {"use": "from", "trunk": TRUNK, "pyramid": 32, "open_bias": 2, "fill": "mean"}
CLASSIFY = {"use": "occlusion-pattern", "weight": 0.1}
#: What each row changes in the recipe: options of the backbone, the pattern term, whether pixels teach the mask.
ROWS: dict[str, dict[str, Any]] = {
    "augmented": {"backbone": TRUNK},
    "from": {"backbone": FROM, "pattern": CLASSIFY},
    "from-regression": {
        "backbone": FROM | {"patterns": "regression"},
        "pattern": {"use": "occlusion-box", "weight": 1.0, "distance": "smooth-l1"},
    },
    "from-k4": {"backbone": FROM | {"blocks": 4}, "pattern": CLASSIFY},
    "from-k6": {"backbone": FROM | {"blocks": 6}, "pattern": CLASSIFY},
    "from-lambda-0": {"backbone": FROM, "pattern": CLASSIFY | {"weight": 0.0}},
    "from-lambda-1": {"backbone": FROM, "pattern": CLASSIFY | {"weight": 1.0}},
    "from-lambda-10": {"backbone": FROM, "pattern": CLASSIFY | {"weight": 10.0}},
    "from-2d": {"backbone": FROM | {"mask_shape": "2d"}, "pattern": CLASSIFY},
    "from-embedding": {
        "backbone": FROM | {"mask_on": "embedding", "fill": "zero"},
        "pattern": CLASSIFY,
        "coverage": False,
    },
    "from-pixel-labels": {"backbone": FROM, "pattern": CLASSIFY | {"match": "mask"}},
    "from-no-coverage": {"backbone": FROM, "pattern": CLASSIFY, "coverage": False},
    "from-zero-fill": {"backbone": FROM | {"fill": "zero"}, "pattern": CLASSIFY},
}
THREE_SEEDS = ("augmented", "from", "from-regression")
OCCLUSION = {
    "use": "choice",
    "of": [
        {"occlusion": {"use": "rectangles", "coverage": [0.1, 0.4], "fills": ["colour", "texture"]}, "weight": 3},
        {"occlusion": "medical-mask"},
        {"occlusion": "eye-bar"},
    ],
}
#: Conditions whose mean the study's bar is set for: (a) rectangles, (b) a lower-face mask, (c) an eye band.
OCCLUDED = ("rectangles", "mask", "eyes")
#: Layers of the trunk that stand still on a CPU: half of the cost of a step, and edges look the same on a mask.
STILL = ("stem", "stem_depthwise", "stem_pointwise", "stage1")


@dataclass(frozen=True)
class Recipe:
    """What all rows have in common. whole_trunk: also its first layers learn. jobs: trainings at a time."""

    epochs: int = 4
    batch_size: int = 64
    lr: float = 0.01
    whole_trunk: bool = False
    device: str = "cpu"
    jobs: int = 1


def training(row: str, seed: int, shared: Path, recipe: Recipe) -> dict[str, Any]:
    """The pipeline of one row. All see the same batches as often, with the same losses but for those of masks."""
    chosen = ROWS[row]
    wrapped = chosen["backbone"] is not TRUNK
    losses: list[dict[str, Any]] = [
        {"use": "cosface", "scale": 30, "margin": 0.35, "weight": 0.2},
        {"use": "distil-clean", "weight": 30.0},
    ]
    if wrapped:
        losses.append(chosen["pattern"])
        if chosen.get("coverage", True):
            losses.append({"use": "mask-coverage", "weight": 3.0})
    prefix = "trunk." if wrapped else ""
    parts: dict[str, Any] = {"trunk" if wrapped else "backbone": {"statistics": "keep"}}
    if wrapped:  # what begins from nothing
        parts |= {"pyramid": {"rate": 5}, "decoder": {"rate": 5}, "predictor": {"rate": 5}}
    step = {
        "use": "train",
        "name": "final",
        "data": "celeba",
        "start": "trunk",
        "teacher": "trunk",
        "backbone": chosen["backbone"],
        "losses": losses,
        "occlusion": OCCLUSION,
        "grey_probability": 0.5,
        "parts": parts | {f"{prefix}{layer}": {"rate": 0} for layer in (() if recipe.whole_trunk else STILL)},
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimiser": {"name": "sgd", "lr": recipe.lr},
        "clip_norm": 20.0,
        "schedule": {"name": "cosine", "warmup_epochs": 0.2},
        "threads": max(1, usable_cores() // recipe.jobs),
        "augment_on": "workers" if recipe.device == "cpu" else "device",
    }
    weights = str(shared / "weights" / "mobilefacenet_ms1m_128d.safetensors")
    pretrained = {"use": "pretrained", "name": "trunk", "backbone": TRUNK, "weights": weights}
    return {
        "version": 1,
        "name": f"from-study-{row}-{seed}",
        "run_dir": str(RUNS / f"{row}-{seed}"),
        "seed": seed,
        "device": recipe.device,
        "data": {
            "celeba": {"use": "parquet", "url": str(shared / "data" / "celeba112_colour.parquet"), "aligned": True}
        },
        "steps": [pretrained, step],
    }


def systems_of(rows: Sequence[str], seeds: int) -> list[tuple[str, int]]:
    """What to train, in order: all rows with one seed before any with the next."""
    return [(row, seed) for seed in range(1, seeds + 1) for row in rows if seed == 1 or row in THREE_SEEDS]


def train(pipeline: Mapping[str, Any], file: Path, *, remember: bool) -> None:
    """remember: a CPU's teacher is asked for each picture once in all trainings; only one of them at a time."""
    file.write_text(dump_yaml(dict(pipeline)))
    registry = PluginRegistry.discover()
    with remembered(RUNS / "teacher.npz") if remember else nullcontext():
        Runner(load_pipeline(read_yaml(file), registry), registry, Console(stderr=True)).run()


def train_all(wanted: Mapping[str, Mapping[str, Any]], jobs: int) -> None:
    """Trains ``jobs`` of the pipelines at a time, each in a process of its own."""
    # Each process leaves the other cores to its neighbours; read when a process starts.
    os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // jobs))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        tasks = [
            pool.submit(train, pipeline, RUNS / f"{name}.yaml", remember=False) for name, pipeline in wanted.items()
        ]
        for task in tasks:
            task.result()


def cut_out_pairs(shared: Path) -> None:
    """The images that LFW's pairs use, as a data set of their own."""
    target = RUNS / "lfw-pairs.parquet"
    if target.exists():
        return
    pairs = parse_pairs(str(shared / "data" / "lfw_pairs.txt"))
    named = {str(image) for pair in pairs for image in (pair.first, pair.second) if isinstance(image, LfwImage)}
    table = pq.read_table(shared / "data" / "lfw112_gray.parquet")
    kept = [at for at, name in enumerate(table["file"].to_pylist()) if Path(name).stem in named]
    if len(kept) != len(named):
        raise SystemExit(f"{len(named)} images are named in the pairs, {len(kept)} of them found")
    pq.write_table(table.take(kept), target, row_group_size=512)


def results_of(system: str, trials: Sequence[str]) -> dict[tuple[str, str], ProtocolResult]:
    """(trial, condition) -> result; ``occluded`` is the mean over the study's three kinds."""
    found: dict[tuple[str, str], ProtocolResult] = {}
    for trial in trials:
        (by_condition,) = load_evaluation(str(RUNS / "suite" / evaluation_step(system, trial))).results.values()
        found |= {(trial, condition): result for condition, result in by_condition.items()}
        found[trial, "occluded"] = mean_of([by_condition[condition] for condition in OCCLUDED])
    return found


def mean_of(parts: Sequence[ProtocolResult]) -> ProtocolResult:
    """The mean of each figure and of each round; all are of the same people, so that rounds drew the same ones."""
    metrics, intervals = {}, {}
    for name, item in parts[0].intervals.items():
        metrics[name] = float(np.mean([part.metrics[name] for part in parts]))
        rounds = np.mean([part.intervals[name].rounds for part in parts], axis=0, dtype=np.float64).astype(np.float32)
        low, high = np.quantile(rounds, [0.025, 0.975])
        intervals[name] = Interval(float(low), float(high), rounds, item.level, item.drawn)
    return ProtocolResult(metrics, intervals=intervals)


def differences(
    first: Mapping[tuple[str, str], ProtocolResult], second: Mapping[tuple[str, str], ProtocolResult]
) -> Any:
    """trial -> condition -> figure -> [second - first, low, high], over rounds that drew the same people."""
    told: dict[str, dict[str, Any]] = {}
    for trial, condition in first:
        found = compare_results(first[trial, condition], second[trial, condition]).differences
        told.setdefault(trial, {})[condition] = {
            item.metric: [item.difference, item.low, item.high]
            for item in found
            if item.metric == "accuracy" or item.metric.startswith("tar@")
        }
    return told


def ahead(found: Mapping[str, Mapping[tuple[str, str], ProtocolResult]]) -> dict[str, Any]:
    """Of each row what it is ahead of augmentation alone with the same seeds: by seed, and the mean of all seeds."""
    told: dict[str, Any] = {}
    seeds: dict[str, list[str]] = {}
    for name in found:
        row, _, seed = name.rpartition("-")
        if row.startswith("from") and f"augmented-{seed}" in found:
            told[name] = differences(found[f"augmented-{seed}"], found[name])
            seeds.setdefault(row, []).append(seed)
    for row, known in seeds.items():
        if len(known) > 1:
            base, other = (
                {key: mean_of([found[f"{kind}-{seed}"][key] for seed in known]) for key in found[f"{row}-{known[0]}"]}
                for kind in ("augmented", row)
            )
            told[f"{row}, mean of {len(known)} seeds"] = differences(base, other)
    return told


def learning(folder: Path) -> list[dict[str, float]]:
    """Loss, pattern accuracy and IoU of each epoch."""
    lines = [json.loads(line) for line in (folder / "final" / "metrics.jsonl").read_text().splitlines()]
    names = ("epoch", "images_per_s")
    return [
        {key: value for key, value in line.items() if key in names or key.startswith("loss") or "." in key}
        for line in lines
        if line.get("kind") == "epoch"
    ]


def costs(models: Mapping[str, str], *, batch: int = 16, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Parameters of the form that embeds, and milliseconds of one thread an image: the best round, models in turn."""
    import torch

    torch.set_num_threads(1)
    build = BuildContext(PluginRegistry.discover(), device="cpu")
    loaded = {name: load_model(url, build) for name, url in models.items()}
    images = torch.randint(0, 256, (batch, 3, 112, 112), dtype=torch.uint8)
    taken: dict[str, list[float]] = {name: [] for name in loaded}
    for _ in range(rounds + 1):
        for name, model in loaded.items():
            began = time.process_time()
            embed_images(model, images)
            taken[name].append(1000 * (time.process_time() - began) / batch)
    return {
        name: {
            "parameters": sum(parameter.numel() for parameter in model.backbone.parameters()),
            "ms_per_image": min(taken[name][1:]),
        }
        for name, model in loaded.items()
    }


def measure(systems: Mapping[str, Any], shared: Path, out: Path, settings: Mapping[str, Any]) -> None:
    """Runs the suite on the trained systems and writes the result file."""
    suite = dict(read_yaml(HERE / "suites" / "from.yaml").value)
    suite["trials"]["pairs"]["protocol"]["pairs"] = f"{shared}/data/lfw_pairs.txt"
    suite["systems"]["trunk"]["weights"] = f"{shared}/weights/mobilefacenet_ms1m_128d.safetensors"
    suite["systems"] = dict(suite["systems"]) | dict(systems)
    suite["device"] = settings["device"]
    (RUNS / "suite.yaml").write_text(dump_yaml(suite))
    command = [sys.executable, "-m", "occframe", "bench", "run", str(RUNS / "suite.yaml"), "-o", str(out)]
    command += ["--processes", str(settings["jobs"])] if settings["jobs"] > 1 else []
    subprocess.run(command, check=True)

    result = json.loads(out.read_text())
    found = {name: results_of(name, list(suite["trials"])) for name in suite["systems"]}
    for name, trial in [(name, trial) for name in found for trial in suite["trials"]]:
        metrics = dict(found[name][trial, "occluded"].metrics)
        result["rows"].append({"system": name, "trial": trial, "condition": "occluded", "metrics": metrics})
    for row in result["rows"]:
        intervals = found[row["system"]][row["trial"], row["condition"]].intervals
        row["intervals"] = {name: [item.low, item.high] for name, item in intervals.items()}
        row["metrics"] = {name: value for name, value in row["metrics"].items() if not name.startswith("threshold")}
    result["ahead_of_augmentation"] = ahead(found)
    result["learning"] = {name: learning(RUNS / name) for name in systems}
    # Where the material lies is of no use to a reader.
    result = json.loads(json.dumps(result).replace(str(shared), "../shared"))
    # Seeds differ in their weights alone.
    models = {name: item["model"] for name, item in systems.items() if name.endswith("-1")}
    models["trunk"] = str(RUNS / "suite" / "model-trunk")
    result["costs"] = costs(models)
    result["training"] = dict(settings) | {"cores": usable_cores()}
    out.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows to train; the trunk as it is always is one")
    parser.add_argument("--seeds", type=int, default=3, help="of the main rows; ablations take one")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--batch-size", type=int, default=Recipe.batch_size)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--whole-trunk", action="store_true", help="also the trunk's first layers learn")
    parser.add_argument("--device", default=Recipe.device)
    parser.add_argument("--jobs", type=int, default=Recipe.jobs, help="trainings at a time")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "from.json")
    arguments = parser.parse_args()
    rows = [row for row in arguments.rows.split(",") if row]
    if unknown := set(rows) - ROWS.keys():
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    RUNS.mkdir(parents=True, exist_ok=True)
    cut_out_pairs(arguments.shared)
    recipe = Recipe(**{name: getattr(arguments, name) for name in Recipe.__dataclass_fields__})
    settings = {"rows": rows, "seeds": arguments.seeds, "not_trained": sorted(set(ROWS) - set(rows))} | asdict(recipe)

    wanted = {
        f"{row}-{seed}": training(row, seed, arguments.shared, recipe)
        for row, seed in systems_of(rows, arguments.seeds)
    }
    models = {name: {"model": f"{pipeline['run_dir']}/final"} for name, pipeline in wanted.items()}
    if recipe.jobs > 1:
        train_all(wanted, recipe.jobs)
        measure(models, arguments.shared, arguments.out, settings)
        return
    for count, (name, pipeline) in enumerate(wanted.items(), 1):
        train(pipeline, RUNS / f"{name}.yaml", remember=recipe.device == "cpu")
        measure(dict(list(models.items())[:count]), arguments.shared, arguments.out, settings)


if __name__ == "__main__":
    main()
