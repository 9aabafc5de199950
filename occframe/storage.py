"""Files on any fsspec URL: joining, reading, and writing that leaves the old file or the new one, never half."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from occframe.errors import OccframeError


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL and the path in it. Raises OccframeError for an unknown or uninstalled protocol."""
    try:
        return fsspec.core.url_to_fs(str(url))  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        raise OccframeError(f"cannot open {url}: {error}", remedy="check the URL, or install what it names") from error


def join(url: str, *parts: str) -> str:
    return "/".join([str(url).rstrip("/"), *parts])


def local_path(url: str) -> Path | None:
    """The path of a URL on this machine's disk, None for anything remote."""
    fs, path = filesystem(url)
    return Path(path) if "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol) else None


def exists(url: str) -> bool:
    fs, path = filesystem(url)
    return bool(fs.exists(path))


def make_dirs(url: str) -> None:
    fs, path = filesystem(url)
    fs.makedirs(path, exist_ok=True)


def read_bytes(url: str) -> bytes:
    fs, path = filesystem(url)
    return bytes(fs.cat_file(path))


def write_bytes(url: str, data: bytes) -> None:
    """Write whole or not at all: aside, synced and renamed on a local disk; one put elsewhere."""
    if local_path(url) is None:
        fs, remote = filesystem(url)
        fs.pipe_file(remote, data)
        return
    with create_file(url) as file:
        file.write(data)


@contextmanager
def create_file(url: str) -> Iterator[BinaryIO]:
    """A file to stream into, which appears under ``url`` when the block ends and not at all where it raises.

    Aside, synced and renamed on a local disk; elsewhere as the file system commits (object stores: at the end).
    Raises OccframeError where a local disk refuses.
    """
    path = local_path(url)
    if path is None:
        fs, remote = filesystem(url)
        # Not fs.transaction: it belongs to the whole file system object, which every writer of this process shares.
        file = fs.open(remote, "wb", autocommit=False)
        try:
            yield file
            file.close()
        except BaseException:
            file.discard()
            raise
        file.commit()
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as local:
            yield local
            local.flush()
            os.fsync(local.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OccframeError(
                f"cannot write {path}: {error.strerror or error}",
                remedy="free some space or choose another run_dir, then run again",
            ) from error
        raise


def _sync_folder(folder: Path) -> None:
    """A new name is on disk once its folder is."""
    if os.name == "nt":  # no handle of a folder there
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_json(url: str) -> Any:
    return json.loads(read_bytes(url))


def write_json(url: str, value: Any) -> None:
    write_bytes(url, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
