"""Where the figures of a run go while it goes on: TensorBoard and MLflow."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_trackers(register):  # type: ignore[no-untyped-def]
    register(
        "tensorboard",
        "occframe_trackers.tensorboard:TensorBoardTracker",
        config="occframe_trackers.configs:TensorBoardConfig",
        summary="event files for TensorBoard, beside the run or wherever `url` says (extra `tensorboard`)",
    )
    register(
        "mlflow",
        "occframe_trackers.mlflow:MLflowTracker",
        config="occframe_trackers.configs:MLflowConfig",
        summary="a run on an MLflow server (extra `mlflow`)",
    )
