"""Figures of a run reach the trackers it names, live and at the end; a tracker that fails costs a line."""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from occframe.component import BuildContext, TrackerBlock
from occframe.errors import Interrupted
from occframe.plugins import PluginRegistry
from occframe.tracking import Tracking
from occframe.types import RunFacts

PIPELINE = """
    device: cpu
    plugins: [failing.py]
    trackers: [tensorboard, failing]
    data:
      faces: {use: synthetic, identities: 4, images: 4, size: 32}
    steps:
      - use: train
        name: net
        data: faces
        epochs: 2
        batch_size: 8
        log_every: 1
        backbone: {use: mobilefacenet, input_size: [32, 32], embedding_dim: 16}
        losses: [cosface]
    """
FAILING = """
    from occframe import Config, hookimpl

    class Options(Config):
        pass

    class Failing:
        def __init__(self, config, context): ...
        def begin(self, run): ...
        def figures(self, source, figures, step):
            raise ConnectionError("the server is away")
        def finish(self, status):
            raise AssertionError("it was ended before")

    @hookimpl
    def occframe_register_trackers(register):
        register("failing", Failing, config=Options, summary="fails")
    """


def test_a_training_is_followed_and_a_failing_tracker_costs_one_line(run_pipeline):
    outcome = run_pipeline(PIPELINE, files={"failing.py": FAILING}).assert_ok()
    said = " ".join(outcome.stderr.split())  # as wide as the terminal
    assert said.count("tracker `failing` stopped, the run goes on: ConnectionError: the server is away") == 1
    events = EventAccumulator(str(outcome.folder / "run" / "tensorboard"))
    events.Reload()
    losses = events.Scalars("net/loss")
    assert [point.step for point in losses] == [1, 2, 3, 4]
    assert losses[-1].value != losses[0].value
    assert {"net/lr", "net/images_per_s", "net/epoch.loss", "results/net/steps"} <= set(events.Tags()["scalars"])
    assert "pipeline/text_summary" in events.Tags()["tensors"]


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.mark.parametrize(
    ("error", "status"), [(None, "done"), (ValueError(), "failed"), (Interrupted("stopped"), "interrupted")]
)
def test_the_end_is_told(error, status):
    tracker, facts = Recorder(), RunFacts("run", "/run", 0, {})
    tracking = Tracking(lambda text: None)
    try:
        with tracking.of({"one": tracker}, facts):  # type: ignore[dict-item]
            tracking.figures("net", {"loss": 1.0}, 3)
            if error is not None:
                raise error
    except (ValueError, Interrupted):
        pass
    tracking.figures("net", {"loss": 2.0}, 4)
    assert tracker.calls == [("begin", facts), ("figures", "net", {"loss": 1.0}, 3), ("finish", status)]


class FakeClient:
    """What of MLflow's client is used, as a server would answer."""

    servers: dict[str, dict[str, Any]] = {}  # noqa: RUF012

    def __init__(self, tracking_uri: str) -> None:
        self.runs = self.servers.setdefault(tracking_uri, {})

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if name == "masks" else None

    def create_experiment(self, name: str) -> str:
        raise AssertionError("it is there")

    def search_runs(self, experiments: list[str], query: str, max_results: int) -> list[Any]:
        found = re.fullmatch(r"tags\.`([\w.]+)` = '(\w+)'", query)
        assert found, query
        return [run for run in self.runs.values() if run.tags[found[1]] == found[2]]

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
        info = SimpleNamespace(run_id=f"run-{len(self.runs)}")
        run = SimpleNamespace(info=info, tags=tags, name=run_name, metrics=[], params=[], status="RUNNING")
        self.runs[info.run_id] = run
        return run

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.runs[run].metrics += metrics
        self.runs[run].params += params

    def update_run(self, run: str, status: str) -> None:
        self.runs[run].status = status

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run].status = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs by id, of the fake service."""
    modules = {name: ModuleType(name) for name in ("mlflow", "mlflow.tracking", "mlflow.entities")}
    modules["mlflow.tracking"].MlflowClient = FakeClient  # type: ignore[attr-defined]
    modules["mlflow.entities"].Metric = lambda *figure: figure  # type: ignore[attr-defined]
    modules["mlflow.entities"].Param = lambda *option: option  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    FakeClient.servers.clear()
    return FakeClient.servers.setdefault("http://tracking", {})


def test_mlflow_gets_options_figures_and_the_end_and_a_resumed_run_goes_on(server):
    registry = PluginRegistry.discover()
    written = {"use": "mlflow", "uri": "http://tracking", "experiment": "masks", "tags": {"team": "faces"}}
    block = TrackerBlock.model_validate(written, context={"registry": registry})
    steps = [{"use": "train", "epochs": number, "losses": []} for number in range(60)]
    facts = RunFacts("masks", "/runs/it's", 3, {"device": "cpu", "steps": steps})
    for status, value in (("interrupted", 1.0), ("done", 0.5)):
        tracker = BuildContext(registry).build(block)
        tracker.begin(facts)
        tracker.figures("net", {"loss": value, "TAR@FAR": float("nan")}, 10)
        tracker.figures("evaluate", {"TAR@FAR=1e-3": 0.9}, None)
        tracker.finish(status)
    (run,) = server.values()
    assert run.name == "masks"
    assert {"occframe.run_dir": "/runs/it's", "occframe.seed": "3", "team": "faces"}.items() <= run.tags.items()
    assert ("steps.59.epochs", "59") in run.params
    assert len(run.params) == len(set(run.params)) == 121
    assert [(name, value, step) for name, value, _, step in run.metrics] == [
        ("net/loss", 1.0, 10),
        ("results/evaluate/TAR_FAR_1e-3", 0.9, 0),
        ("net/loss", 0.5, 10),
        ("results/evaluate/TAR_FAR_1e-3", 0.9, 0),
    ]
    assert run.status == "FINISHED"
