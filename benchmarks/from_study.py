"""The study of FROM on real faces: trains every row, measures all of them on ``suites/from.yaml``, with intervals.

    python -m benchmarks.from_study --shared ../shared [--rows trunk,augmented,from] [--seeds 3] [--epochs 8]

Every training and every cell lies in a run directory of its own under ``runs/from-study``: a second start goes on where
the first ended, and computes nothing twice. The result file names environment, seeds, what was measured and what not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.bootstrap import AllPairs, Interval
from occframe.bench.suite import evaluation_step, expand, load_suite
from occframe.evaluation.ids import LfwImage
from occframe.evaluation.pairs import parse_pairs
from occframe.gallery import Gallery
from occframe.plugins import PluginRegistry
from occframe.yamlfile import dump_yaml, read_yaml

HERE = Path(__file__).resolve().parent
RUNS = Path("runs/from-study")
TRUNK = {"use": "mobilefacenet", "preset": "foamliu"}
FROM = {"use": "from", "trunk": TRUNK, "pyramid": 32, "open_bias": 2}
CLASSIFY = {"use": "occlusion-pattern", "weight": 0.1}
#: What each row changes in the recipe: options of the backbone, the pattern term, and λ's factor on it.
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
    "from-embedding": {"backbone": FROM | {"mask_on": "embedding"}, "pattern": CLASSIFY, "coverage": False},
    "from-pixel-labels": {"backbone": FROM, "pattern": CLASSIFY | {"match": "mask"}},
    "from-no-coverage": {"backbone": FROM, "pattern": CLASSIFY, "coverage": False},
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
FARS = (1e-4, 1e-5)


def training(row: str, seed: int, shared: Path, epochs: int, warmup: int) -> dict[str, Any]:
    """The pipeline of one row: FROM first learns its decoder with the trunk frozen, then both; every row sees as many
    batches, so augmentation alone takes the first stage's steps too."""
    chosen = ROWS[row]
    wrapped = chosen["backbone"] is not TRUNK
    losses: list[dict[str, Any]] = [
        {"use": "cosface", "scale": 30, "margin": 0.35, "weight": 0.2},
        {"use": "distil-clean", "weight": 30.0},
    ]
    if wrapped:
        losses.append(chosen["pattern"])
        if chosen.get("coverage", True):
            losses.append({"use": "mask-coverage", "weight": 0.3})
    common = {
        "use": "train",
        "data": "celeba",
        "backbone": chosen["backbone"],
        "teacher": "trunk",
        "losses": losses,
        "occlusion": OCCLUSION,
        "grey_probability": 0.5,
        "batch_size": 64,
        "optimiser": {"name": "sgd", "lr": 0.02},
    }
    first = common | {"name": "decoder", "start": "trunk", "parts": {"trunk": {"rate": 0.0}}, "epochs": warmup}
    parts = {"trunk": {"statistics": "keep"}, "pyramid": {"rate": 0.3}, "decoder": {"rate": 0.3}}
    second = common | {
        "name": "final",
        "start": "decoder" if wrapped else "trunk",
        "parts": parts if wrapped else {"backbone": {"statistics": "keep"}},
        "epochs": epochs if wrapped else epochs + warmup,
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
    }
    weights = str(shared / "weights" / "mobilefacenet_ms1m_128d.safetensors")
    pretrained = {"use": "pretrained", "name": "trunk", "backbone": TRUNK, "weights": weights}
    return {
        "version": 1,
        "name": f"from-study-{row}-{seed}",
        "run_dir": str(RUNS / f"{row}-{seed}"),
        "seed": seed,
        "data": {
            "celeba": {"use": "parquet", "url": str(shared / "data" / "celeba112_colour.parquet"), "aligned": True}
        },
        "steps": [pretrained, *([first] if wrapped else []), second],
    }


def occframe(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "occframe", *arguments], check=True)


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


def intervals(system: str, conditions: Mapping[str, Any], seed: int) -> dict[str, dict[str, Interval]]:
    """condition -> "tar@far=…" -> interval over subjects, on all clean × occluded pairs."""
    registry = PluginRegistry.discover()
    pipeline = expand(load_suite(read_yaml(RUNS / "suite.yaml"), registry), "suite.yaml", registry)
    cell = pipeline.steps[evaluation_step(system, "pairs")].config
    suite = RUNS / "suite"
    reference = Gallery.open(str(suite / cell.reference)).read()
    found = {}
    for condition in conditions:
        probe = Gallery.open(str(suite / cell.probes[condition])).read()
        pairs = AllPairs.score(reference, probe, highest_far=max(FARS))
        found[condition] = {f"tar@far={far:g}": pairs.interval(far, rounds=200, seed=seed) for far in FARS}
    return found


def last_figures(folder: Path) -> dict[str, float]:
    """Pattern accuracy and IoU over the last epoch."""
    line = json.loads((folder / "final" / "metrics.jsonl").read_text().splitlines()[-1])
    return {key: value for key, value in line.items() if key.endswith((".accuracy", ".iou"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows to train")
    parser.add_argument("--seeds", type=int, default=3, help="of the main rows; ablations take one")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2, help="epochs of the decoder alone")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "from.json")
    arguments = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    cut_out_pairs(arguments.shared)

    rows = [row for row in arguments.rows.split(",") if row != "trunk"]
    if unknown := set(rows) - ROWS.keys():
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are trunk, {', '.join(ROWS)}")
    systems = {}
    for row in rows:
        for seed in range(1, 1 + (arguments.seeds if row in THREE_SEEDS else 1)):
            pipeline = training(row, seed, arguments.shared, arguments.epochs, arguments.warmup)
            file = RUNS / f"{row}-{seed}.yaml"
            file.write_text(dump_yaml(pipeline))
            occframe("run", str(file))
            systems[f"{row}-{seed}"] = {"model": f"{pipeline['run_dir']}/final"}

    suite = dict(read_yaml(HERE / "suites" / "from.yaml").value)
    material = str(arguments.shared)
    suite["trials"]["pairs"]["protocol"]["pairs"] = f"{material}/data/lfw_pairs.txt"
    suite["systems"]["trunk"]["weights"] = f"{material}/weights/mobilefacenet_ms1m_128d.safetensors"
    suite["systems"] = dict(suite["systems"]) | systems
    (RUNS / "suite.yaml").write_text(dump_yaml(suite))
    occframe("bench", "run", str(RUNS / "suite.yaml"), "-o", str(arguments.out))

    result = json.loads(arguments.out.read_text())
    measured = {name: intervals(name, suite["conditions"], seed=3) for name in suite["systems"]}
    result["intervals"] = {
        name: {
            condition: {figure: [item.value, item.low, item.high] for figure, item in figures.items()}
            for condition, figures in by_condition.items()
        }
        for name, by_condition in measured.items()
    }
    result["ahead_of_augmentation"] = ahead(measured)
    result["patterns"] = {name: last_figures(RUNS / name) for name in systems}
    result["training"] = vars(arguments) | {"shared": None, "out": None, "cores": os.cpu_count()}
    result["not_trained"] = sorted(set(ROWS) - set(rows))
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def ahead(measured: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> dict[str, Any]:
    """How far each row is ahead of augmentation alone with the same seed: [difference, low, high], paired rounds."""
    differences: dict[str, Any] = {}
    for name, conditions in measured.items():
        row, _, seed = name.rpartition("-")
        if not row.startswith("from") or f"augmented-{seed}" not in measured:
            continue
        base = measured[f"augmented-{seed}"]
        differences[name] = {
            condition: {
                figure: [
                    item.value - base[condition][figure].value,
                    *np.quantile(item.rounds - base[condition][figure].rounds, [0.025, 0.975]).tolist(),
                ]
                for figure, item in figures.items()
            }
            for condition, figures in conditions.items()
        }
    return differences


if __name__ == "__main__":
    main()
