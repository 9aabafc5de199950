"""The Parquet data set of the core, as a component."""

from __future__ import annotations

from occframe import BuildContext
from occframe.data import ParquetFaces
from occframe_datasets.configs import ParquetConfig


def build(config: ParquetConfig, context: BuildContext) -> ParquetFaces:
    options = config.model_dump(exclude={"cache_mb"})
    return ParquetFaces(**options, cache_bytes=config.cache_mb << 20)
