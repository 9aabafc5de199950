"""Are occluded sets the same whether one thread makes them or two?

Runs steps of pipelines/occluded-sets.yaml over a file of faces, once with one core and once with two, and compares what
they wrote: the recipes with their hashes, and every row of every Parquet file with pictures, masks and parameters.

    python benchmarks/occluded_sets.py ../shared/data/lfw112_gray.parquet [--steps occ lower-50] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from occframe.machine import CORES

PIPELINE = Path(__file__).parents[1] / "pipelines" / "occluded-sets.yaml"
#: Every generator of the pipeline once: the other steps are other severities of the last.
STEPS = ("occ", "masked", "with-glasses", "with-sunglasses", "lower-50")


def make(pipeline: dict[str, Any], faces: Path, run_dir: Path, cores: int) -> None:
    written = run_dir.with_suffix(".yaml")
    changed = pipeline | {"run_dir": str(run_dir), "data": {"faces": pipeline["data"]["faces"] | {"url": str(faces)}}}
    written.write_text(yaml.safe_dump(changed))
    command = [sys.executable, "-m", "occframe", "run", str(written)]
    # Decoding threads, and those of torch.
    subprocess.run(command, check=True, env=os.environ | {CORES: str(cores), "OMP_NUM_THREADS": str(cores)})


def compare(one: Path, two: Path) -> dict[str, Any]:
    first, second = (json.loads((folder / "recipe.json").read_text()) for folder in (one, two))
    rows, others = (pq.read_table(folder / "faces.parquet") for folder in (one, two))
    return {
        "recipe": first["hash"],
        "same_recipe": first == second,
        "rows": rows.num_rows,
        "same_rows": rows.equals(others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a Parquet file of aligned faces")
    parser.add_argument("--steps", nargs="+", default=STEPS, help="steps of the pipeline")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    pipeline = yaml.safe_load(PIPELINE.read_text())
    pipeline["steps"] = [step for step in pipeline["steps"] if step["name"] in arguments.steps]
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "one", Path(folder) / "two"
        for cores, run_dir in enumerate(runs, 1):
            make(pipeline, arguments.faces.resolve(), run_dir, cores)
        names = [step["name"] for step in pipeline["steps"]]
        rows = [{"step": name} | compare(*(run_dir / name for run_dir in runs)) for name in names]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    for row in rows:
        print(row)
    print(f"{(used.ru_utime + used.ru_stime) / 60:.1f} minutes of CPU")
    if arguments.out:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        result = {"date": date.today().isoformat(), "machine": machine, "faces": arguments.faces.name, "rows": rows}
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if not all(row["same_recipe"] and row["same_rows"] for row in rows):
        sys.exit("they differ")


if __name__ == "__main__":
    main()
