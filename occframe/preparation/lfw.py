"""LFW: ``lfw/Name/Name_0001.jpg`` in a tar file, and ``pairs.txt``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from occframe.errors import OccframeError
from occframe.preparation.archives import read_archive
from occframe.preparation.faces import Picture
from occframe.preparation.sources import SourceFile


def pictures(files: Mapping[str, SourceFile]) -> Iterator[Picture]:
    """Ids as ``Name/Name_0001.jpg``."""
    path = files["pictures"].path
    count = 0
    for name, content in read_archive(path, ".jpg"):
        *_, person, file = PurePosixPath("_", name).parts
        if not file.startswith(f"{person}_"):
            raise OccframeError(
                f"{path} is no LFW archive: {name} is not Name/Name_0001.jpg", remedy="give lfw.tgz as it was published"
            )
        count += 1
        yield Picture(f"{person}/{file}", person, content)
    if not count:
        raise OccframeError(f"{path} holds no .jpg", remedy="give lfw.tgz as it was published")
