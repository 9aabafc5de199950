"""What each row of the glasses study is trained with: one recipe, and what the row changes in it.

The row ``paired-blend`` is ``pipelines/deglass-paired.yaml``, the reference network, which takes a GPU; ``quick`` is
``pipelines/deglass-quick.yaml``, narrow networks at 112 x 112. Other rows change the last step of one of them, trained
from scratch: of the reference on a GPU, of the narrow one on a CPU. Ablations take the narrow one, less
time, and are to be compared with ``short``, which changes nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from occframe.yamlfile import read_yaml

PIPELINES = Path(__file__).resolve().parent.parent / "pipelines"
QUICK, FULL = PIPELINES / "deglass-quick.yaml", PIPELINES / "deglass-paired.yaml"

#: Updates of an ablation.
SHORT = 250
#: The recipes themselves.
WHOLE, CPU_WHOLE = "paired-blend", "quick"
#: What learns from real wearers: nothing but the discriminator asks for the glasses to go.
UNPAIRED: dict[str, Any] = {"mode": "unpaired", "data": "worn", "clean": "faces", "occlusion": None, "batch_size": 32}
#: Real glasses, put on faces, from the file that ``glasses_cutouts`` writes.
CUT_OUTS: dict[str, Any] = {
    "use": "face-sprites",
    "url": "runs/glasses-study/data/cut-outs.parquet",
    "severity": [0.3, 0.7],
}
#: Drawn glasses of every kind.
ANY_LOOK: dict[str, Any] = {"use": "random-eyewear", "severity": [0.1, 1]}
COLOURED: dict[str, Any] = {"use": "glasses", "lenses": ["reflective", "reflective", "tinted", "gradient"]}
#: What goes on from the recipe's result on a CPU has in common.
GOING_ON: dict[str, Any] = {
    "augment_on": "workers",
    "batch_size": 16,
    "optimiser": {"lr": 0.0005},
    "schedule": {"hold": 0.4},
    "ema": 0.995,
    "sample_every": 200,
}
#: row -> what it changes in the recipe's last step; dictionaries are merged.
ROWS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    CPU_WHOLE: {},
    "unpaired": UNPAIRED
    | {
        # Left strong, and slow enough not to run away.
        "adversarial": {"weight": 2},
        "generator": {"discriminator": {"width": 32, "spectral_norm": False}},
        "optimiser": {"lr": 0.0005},
        "feature": {"weight": 2, "share": 0.5},
        "pixel": {"inside": 0},
        "iterations": 1500,
    },
    # With glasses of any look.
    "varied": GOING_ON
    | {
        "occlusion": {
            "use": "choice",
            "of": [
                {"occlusion": ANY_LOOK, "weight": 4},
                {"occlusion": "glasses"},
                {"occlusion": COLOURED},
                {"occlusion": "sunglasses", "weight": 2},
            ],
        },
        "iterations": 1200,
    },
    # After ``varied``, with glasses cut out of photographs of other people than those of the test.
    "cut-outs": GOING_ON
    | {
        "occlusion": {
            "use": "choice",
            "of": [
                {"occlusion": CUT_OUTS, "weight": 3},
                {"occlusion": CUT_OUTS | {"match_light": False}, "weight": 3},
                {"occlusion": ANY_LOOK, "weight": 2},
                {"occlusion": "glasses"},
                {"occlusion": COLOURED},
                {"occlusion": "sunglasses"},
            ],
        },
        "iterations": 2000,
    },
    # After ``cut-outs``: everything photographed once more, so that paste gives nothing away, and beside it real
    # wearers of whom there are pictures without, from ``glasses_wearers``.
    "wearers": GOING_ON
    | {
        "occlusion": {
            "use": "choice",
            "of": [
                {"occlusion": ANY_LOOK, "weight": 3},
                {"occlusion": CUT_OUTS},
                {"occlusion": CUT_OUTS | {"match_light": False}},
                {"occlusion": "glasses", "weight": 1.5},
                {"occlusion": COLOURED},
                {"occlusion": "sunglasses"},
            ],
        },
        "feature": {"shake": 0.06},
        "optimiser": {"lr": 0.0003},
        "camera_probability": 0.9,
        "grey_probability": 0.2,
        "wearers": {"data": "wearers-worn", "bare": "wearers-bare", "weight": 10, "batch_size": 8},
        "batch_size": 8,
        "iterations": 4500,
    },
    # Goes on from the recipe's result, with real wearers.
    "real": UNPAIRED
    | {
        "adversarial": {"weight": 1},
        "optimiser": {"lr": 0.0002},
        "pixel": {"inside": 0},
        "iterations": 500,
    },
    "paired": {"generator": {"blend": False}, "iterations": 1500},
    "short": {"iterations": SHORT},
    "se-off": {"generator": {"se": "none"}, "iterations": SHORT},
    "r-4": {"generator": {"reduction": 4}, "iterations": SHORT},
    "feature-off": {"feature": {"weight": 0}, "iterations": SHORT},
    "pixel-plain": {"pixel": {"inside": 1}, "iterations": SHORT},
    "pixel-masked": {"pixel": {"inside": 0}, "iterations": SHORT},
    "bce": {"adversarial": {"loss": "bce"}, "iterations": SHORT},
}


ABLATIONS = frozenset(row for row, changes in ROWS.items() if changes.get("iterations") == SHORT)
#: Rows that begin with what another has learnt, in the order in which they can be trained; None: with the recipe's.
AFTERWARDS = {"real": None, "varied": None, "cut-outs": "varied", "wearers": "cut-outs"}
#: Rows of the reference network on any device.
_REFERENCE = frozenset({WHOLE, "varied", "cut-outs", "wearers"})


def rows_for(device: str) -> list[str]:
    """What is trained where no rows are named."""
    return [row for row in ROWS if device != "cpu" or row not in _REFERENCE]


def recipe_of(row: str, device: str) -> Path:
    narrow = row == CPU_WHOLE or row in ABLATIONS or (device == "cpu" and row not in _REFERENCE)
    return QUICK if narrow else FULL


def pipeline(row: str, *, shared: Path, data: Path, runs: Path, seed: int, device: str = "cpu") -> dict[str, Any]:
    """The pipeline that trains a row, as plain data. Its last step, ``refined``, is the remover."""
    recipe = copy.deepcopy(dict(read_yaml(recipe_of(row, device)).value))
    run_dir = runs / f"{row}-{seed}"
    recipe |= {"name": f"glasses-study-{row}", "run_dir": str(run_dir), "seed": seed, "device": device}
    files = {"faces": "bare-train"}
    if ROWS[row].get("mode") == "unpaired":
        files["worn"] = "worn-train"
    if "wearers" in ROWS[row]:
        files |= {name: name for name in ("wearers-worn", "wearers-bare")}
    faces = recipe["data"]["faces"]
    recipe["data"] = {name: faces | {"url": str(data / f"{file}.parquet")} for name, file in files.items()}
    recogniser, *_, refined = recipe["steps"]
    recogniser["weights"] = str(shared / "weights" / "mobilefacenet_ms1m_128d.safetensors")
    refined["name"] = "refined"
    if row not in (WHOLE, CPU_WHOLE):
        whole = CPU_WHOLE if recipe_of(row, device) == QUICK else WHOLE
        beginning = runs / f"{AFTERWARDS.get(row) or whole}-{seed}" / "refined"
        start = str(beginning) if row in AFTERWARDS else None
        recipe["steps"] = [recogniser, merged(refined, {"start": start} | ROWS[row])]
    return recipe


def recogniser_pipeline(*, data: Path, runs: Path, seed: int, device: str = "cpu") -> dict[str, Any]:
    """The pipeline that trains the glasses recogniser, on the people that the removers learn from."""
    return {
        "version": 1,
        "name": "glasses-study-recogniser",
        "run_dir": str(runs / "glasses"),
        "seed": seed,
        "device": device,
        "data": {"faces": {"use": "parquet", "url": str(data / "train.parquet"), "aligned": True}},
        "steps": [{"use": "train_glasses_recogniser", "name": "glasses", "data": "faces", "test": 0.1, "epochs": 24}],
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``: mappings are merged, None takes a key away."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
