"""Reading pictures out of archives of strangers, one after another, unpacking nothing onto the disk."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from occframe.errors import OccframeError

#: A picture of these sets has a tenth of that; a member that claims more is no picture.
MAX_MEMBER = 16 << 20
MAX_MEMBERS = 2_000_000

Reader = Callable[[], bytes]


def read_archive(path: Path, extension: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every regular file with that extension, in the archive's order. .tgz, .tar or .zip.

    Raises OccframeError: damaged, too many members, or one too large for a picture.
    """
    members = _zip(path) if zipfile.is_zipfile(path) else _tar(path)
    try:
        for count, (name, size, read) in enumerate(members):
            if count > MAX_MEMBERS:
                raise OccframeError(f"{path} has more than {MAX_MEMBERS:,} members", remedy="fetch it again")
            if not name.lower().endswith(extension):
                continue
            if size > MAX_MEMBER:
                raise OccframeError(f"{path}: {name} has {size:,} bytes, no picture has", remedy="fetch it again")
            yield name, read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise OccframeError(f"{path} cannot be read: {error}", remedy="fetch it again") from error


def _tar(path: Path) -> Iterator[tuple[str, int, Reader]]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None  # it is a regular file
                yield member.name, member.size, partial(file.read, MAX_MEMBER)


def _zip(path: Path) -> Iterator[tuple[str, int, Reader]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, member.file_size, partial(_unzip, archive, member)


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return file.read(MAX_MEMBER)  # whatever it says of its size
