"""Runs on an MLflow server."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe.types import RunFacts
    from occframe_trackers.configs import MLflowConfig

_STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
#: What one request may hold, see MLflow's REST API, "Log Batch".
_METRICS, _PARAMETERS, _TEXT = 1000, 100, 500
_PLACE_TAG = "occframe.place"


class MLflowTracker:
    """Fulfils ``occframe.types.Tracker``. A run in the same directory goes on with the MLflow run of the former one.

    Figures are called ``STEP/FIGURE``, those of a finished step ``results/STEP/FIGURE``; the pipeline's options are
    parameters. Raises OccframeError where MLflow is not installed; what its client raises ends the tracking.
    """

    def __init__(self, config: MLflowConfig, context: BuildContext) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise OccframeError(
                f"the tracker `mlflow` needs MLflow: {error}", remedy="pip install 'occframe[mlflow]'"
            ) from error
        self._config = config
        self._client: Any = MlflowClient(tracking_uri=config.uri)
        self._run_id = ""

    def begin(self, run: RunFacts) -> None:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(self._config.experiment)
        number = experiment.experiment_id if experiment else self._client.create_experiment(self._config.experiment)
        # Searched by a hash: MLflow's filters know no way to write a quote.
        place = hashlib.sha256(run.url.encode()).hexdigest()[:32]
        found = self._client.search_runs([number], f"tags.`{_PLACE_TAG}` = '{place}'", max_results=1)
        if found:
            self._run_id = found[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        tags = {_PLACE_TAG: place, "occframe.run_dir": run.url, "occframe.seed": str(run.seed), **self._config.tags}
        self._run_id = self._client.create_run(number, tags=tags, run_name=run.name).info.run_id
        parameters = [Param(_name(key), str(value)[:_TEXT]) for key, value in _flat(run.config)]
        for start in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self._run_id, params=parameters[start : start + _PARAMETERS])

    def figures(self, source: str, figures: Mapping[str, float], step: int | None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        source = f"results/{source}" if step is None else source
        metrics = [
            Metric(_name(f"{source}/{name}"), value, now, step or 0)
            for name, value in figures.items()
            if not math.isnan(value)
        ]
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _METRICS])

    def finish(self, status: str) -> None:
        self._client.set_terminated(self._run_id, status=_STATUS[status])


def _name(text: str) -> str:
    """MLflow takes letters, digits, _ - . space and / in names."""
    return re.sub(r"[^\w\-. /]", "_", text)[:250]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """``steps.0.train.epochs`` and its value, for every leaf."""
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    if not entries and path:
        yield path, value
    for key, item in entries:
        yield from _flat(item, f"{path}.{key}" if path else str(key))
