"""Data sets that come with occframe."""

from __future__ import annotations

from occframe import hookimpl


@hookimpl
def occframe_register_datasets(register):  # type: ignore[no-untyped-def]
    register(
        "folder",
        "occframe_datasets.folder:build",
        config="occframe_datasets.configs:FolderConfig",
        summary="one sub-folder an identity, pictures in it",
        caps={"reads:*/"},
    )
    register(
        "parquet",
        "occframe_datasets.parquet:build",
        config="occframe_datasets.configs:ParquetConfig",
        summary="Parquet: one row an image, with identity and optional landmarks and attributes",
        caps={"reads:*.parquet"},
    )
    register(
        "recordio",
        "occframe_datasets.recordio:build",
        config="occframe_datasets.configs:RecordIoConfig",
        summary="InsightFace's train.rec and train.idx, read without MXNet",
        caps={"reads:*.rec"},
    )
    register(
        "insightface-bin",
        "occframe_datasets.insightface_bin:build",
        config="occframe_datasets.configs:InsightFaceBinConfig",
        summary="InsightFace's verification sets, lfw.bin and others; their pickles are never run",
        caps={"reads:*.bin"},
    )
    register(
        "webdataset",
        "occframe_datasets.webdataset:build",
        config="occframe_datasets.configs:WebDatasetConfig",
        summary="tar shards: pictures with .cls, .txt or .json beside them",
        caps={"reads:*.tar"},
    )
    register(
        "orl",
        "occframe_datasets.orl:build",
        config="occframe_datasets.configs:OrlConfig",
        summary="the ORL faces: 40 people, 10 grey pictures each (extra `demo`)",
    )
    register(
        "synthetic",
        "occframe_datasets.synthetic:build",
        config="occframe_datasets.configs:SyntheticConfig",
        summary="drawn people with landmarks: no download, deterministic",
    )
