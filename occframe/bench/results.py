"""The result of a suite as plain data: what a reader needs to believe it, rerun it and compare it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from occframe.bench.suite import SuiteConfig, evaluation_step
from occframe.errors import OccframeError
from occframe.rundir import StepRecord, canonical
from occframe.steps.sweep import point_name
from occframe.storage import exists, join
from occframe.types import ProtocolResult

FORMAT = 2


def collect(
    suite: SuiteConfig, steps: Mapping[str, StepRecord], run: Mapping[str, Any], inputs: Mapping[str, str]
) -> dict[str, Any]:
    """One row a system × trial × condition. run: the manifest's facts. inputs: as ``inputs_of`` gives them."""
    flat = suite.model_dump(mode="json")
    rows = []
    for system in suite.systems:
        for trial in suite.trials:
            step = evaluation_step(system, trial)
            found = evaluated(join(suite.run_dir, step))
            for condition in suite.conditions_of(trial):
                # Metric names of the evaluate step read protocol.condition.figure.
                metrics = {
                    key.split(".", 2)[2]: value
                    for key, value in steps[step].metrics.items()
                    if key.split(".", 2)[1] == condition
                }
                result = found[condition]
                rows.append(
                    {
                        "system": system,
                        "trial": trial,
                        "condition": condition,
                        "metrics": metrics,
                        "intervals": {name: [item.low, item.high] for name, item in result.intervals.items()},
                        "counts": dict(result.counts),
                        "step": step,
                    }
                )
    return {
        "format": FORMAT,
        "suite": suite.name,
        "suite_hash": suite_hash(flat),
        "seed": suite.seed,
        "finished": max(steps[evaluation_step(s, t)].started for s in suite.systems for t in suite.trials),
        "seconds": round(sum(record.seconds for record in steps.values()), 1),
        "cpu_seconds": round(sum(record.cpu_seconds for record in steps.values()), 1),
        "data": run["data"],
        "inputs": dict(inputs),
        "versions": run["versions"],
        "machine": run["machine"],
        "configuration": flat,
        "rows": rows,
    }


def suite_hash(flat: Mapping[str, Any]) -> str:
    """Of everything but where cells are kept and on what they are computed."""
    return hashlib.sha256(canonical({k: v for k, v in flat.items() if k not in ("run_dir", "device")})).hexdigest()[:16]


def read_result(path: Path) -> dict[str, Any]:
    """A result file, or the one in a suite's run directory. Raises OccframeError."""
    path = path / "result.json" if path.is_dir() else path
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["format"] not in (1, FORMAT) or not isinstance(result["rows"], list):
            raise OccframeError(f"{path} has format {result['format']}", remedy="run the suite again")
        return dict(result)
    except OSError as error:
        raise OccframeError(
            f"there is no result at {path}", remedy="make one with `occframe bench run SUITE`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise OccframeError(f"{path} is no result of a suite: {error}", remedy="run the suite again") from error


def evaluated(url: str, *, trials: bool = True) -> dict[str, ProtocolResult]:
    """What the evaluate step in directory ``url`` found, by condition. trials: with bootstrap rounds and trials."""
    from occframe.evaluation.results import load_evaluation

    (by_condition,) = load_evaluation(url, trials=trials).results.values()
    return dict(by_condition)


def cells(
    result: Mapping[str, Any], *, system: str | None = None, trials: bool = False
) -> Iterator[tuple[Mapping[str, Any], ProtocolResult]]:
    """Every row, or those of one system, with all that is known of it. trials: with bootstrap rounds and trials.

    Raises OccframeError where the run directory is not at hand.
    """
    read: dict[str, dict[str, ProtocolResult]] = {}
    for row in result["rows"]:
        if system is not None and row["system"] != system:
            continue
        url = evaluation_url(result, row)
        if url not in read:
            read[url] = evaluated(url, trials=trials)
        yield row, read[url][row["condition"]]


def evaluation_url(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The directory of the step that a row is of. Raises OccframeError where it is not at hand."""
    url = join(result["configuration"]["run_dir"], row.get("step") or evaluation_step(row["system"], row["trial"]))
    if not exists(url):
        raise OccframeError(
            f"the cells of this result lie in {result['configuration']['run_dir']}, which is not here",
            remedy="run the suite again on this machine: what is committed are its figures",
        )
    return url


def stale_rows(result: Mapping[str, Any], suite: SuiteConfig, inputs: Mapping[str, str]) -> dict[int, list[str]]:
    """Row number -> what it was computed from and what is no longer so. inputs: as they are now."""
    old, new = result["configuration"], suite.model_dump(mode="json")
    common = [key for key in ("seed", "embed") if old.get(key) != new[key]]
    found = {}
    for number, row in enumerate(result["rows"]):
        trial = new["trials"].get(row["trial"], {})
        names = [str(trial.get(key) or "").partition(".")[0] for key in ("data", "reference", "distractors")]
        parts = [("systems", row["system"]), ("trials", row["trial"]), *(("data", name) for name in names if name)]
        changed = [*common]
        for section, name in parts:
            same = old[section].get(name) == new[section].get(name)
            key = f"{section}.{name}"
            if not same or result.get("inputs", {}).get(key) != inputs.get(key):
                changed.append(key)
        if _cover(old, row["condition"]) != _cover(new, row["condition"]):
            changed.append(f"conditions.{row['condition']}")
        if changed:
            found[number] = list(dict.fromkeys(changed))
    return found


def _cover(flat: Mapping[str, Any], condition: str) -> Any:
    """What covers the probes under a condition: its occlusion, and the value of it that a point of a sweep has."""
    if condition in flat["conditions"]:
        return flat["conditions"][condition]
    for name, sweep in flat.get("sweeps", {}).items():
        if condition in {point_name(name, value) for value in sweep["values"]}:
            return sweep["occlusion"], sweep["axis"], condition
    return "not there"
