"""The run directory: manifest, lock, and one directory a step, on any fsspec URL."""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from occframe.errors import OccframeError
from occframe.storage import exists, filesystem, join, local_path, make_dirs, read_json, write_json

MANIFEST = "manifest.json"
LOCK = "run.lock"
FORMAT = 1

Status = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class StepRecord:
    """What is known of one step. fingerprint: of everything its result depends on. outputs: name -> {kind, meta}.

    cpu_seconds: of this process, all threads.
    """

    use: str
    status: Status
    fingerprint: str
    started: str
    seconds: float = 0.0
    outputs: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    headlines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None
    cpu_seconds: float = 0.0


class RunDir:
    """A run directory and its manifest. Only the process that holds ``lock`` writes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.info: dict[str, Any] = {}
        self.steps: dict[str, StepRecord] = {}
        self._read()

    def _read(self) -> None:
        path = join(self.url, MANIFEST)
        if not exists(path):
            return
        try:
            manifest = read_json(path)
            if manifest["format"] != FORMAT:
                raise OccframeError(
                    f"{path} has format {manifest['format']}, this occframe reads {FORMAT}",
                    remedy="use another run_dir, or the occframe version the manifest names",
                )
            self.info = manifest["run"]
            self.steps = {
                name: StepRecord(**item | {"headlines": tuple(item["headlines"]), "notes": tuple(item["notes"])})
                for name, item in manifest["steps"].items()
            }
        except (ValueError, KeyError, TypeError) as error:
            raise OccframeError(
                f"{path} is no manifest of a run: {error}", remedy="move it away, or choose another run_dir"
            ) from error

    def step_url(self, name: str) -> str:
        return join(self.url, name)

    def record(self, name: str, record: StepRecord) -> None:
        self._save(self.steps | {name: record})
        self.steps[name] = record

    def change(self, name: str, **changes: Any) -> None:
        self.record(name, replace(self.steps[name], **changes))

    def save(self) -> None:
        self._save(self.steps)

    def _save(self, records: Mapping[str, StepRecord]) -> None:
        steps = {name: asdict(record) for name, record in records.items()}
        write_json(join(self.url, MANIFEST), {"format": FORMAT, "run": self.info, "steps": steps})

    def fresh_step_dir(self, name: str, *, keep: bool) -> str:
        """The directory of a step, emptied unless ``keep`` (an interrupted attempt with the same inputs)."""
        url = self.step_url(name)
        fs, path = filesystem(url)
        if not keep and fs.exists(path):
            # Only what a run made may be deleted: `run_dir: .` and a step called `docs` must not cost anybody's docs.
            if name not in self.steps and fs.ls(path):
                raise OccframeError(
                    f"{url} exists and was not made by a run in this directory",
                    remedy="choose another run_dir, give the step another `name:`, or move that away",
                )
            fs.rm(path, recursive=True)
        make_dirs(url)
        return url

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process. Raises OccframeError: another run has it, or it cannot be written."""
        with ExitStack() as held:
            try:
                make_dirs(self.url)
                path = local_path(self.url)
                held.enter_context(_lock_local(str(path / LOCK)) if path else _lock_remote(join(self.url, LOCK)))
            except OSError as error:
                full = error.errno == errno.ENOSPC
                raise OccframeError(
                    f"cannot write to the run directory {self.url}: {error.strerror or error}",
                    remedy="free some space, then run again" if full else "choose another with --set run_dir=PATH",
                ) from error
            self._read()  # what another run wrote before it let go
            yield


@contextmanager
def _lock_local(path: str) -> Iterator[None]:
    import fcntl

    # flock, not the file's existence: the kernel drops it when the process dies, however it dies.
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise OccframeError(
                f"another run uses this directory: {file.read().strip() or path}",
                remedy="wait for it, stop it, or choose another with --set run_dir=PATH",
            ) from None
        file.truncate(0)
        file.write(_who())
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def _lock_remote(url: str) -> Iterator[None]:
    fs, path = filesystem(url)
    if fs.exists(path):
        who = fs.cat_file(path).decode(errors="replace")
        raise OccframeError(
            f"another run uses this directory: {who}", remedy=f"wait for it; if that process is dead, delete {url}"
        )
    fs.pipe_file(path, _who().encode())
    try:
        yield
    finally:
        with suppress(OSError):
            fs.rm_file(path)


def _who() -> str:
    return f"process {os.getpid()} on {socket.gethostname()} since {now()}"


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def environment() -> dict[str, Any]:
    """Versions and machine, for the manifest and the report."""
    packages = ["occframe", "torch", "numpy", "pyarrow", "opencv-python-headless", "faiss-cpu", "faiss-gpu", "pydantic"]
    versions = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    machine = {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}
    return {"versions": versions, "machine": machine, "command": " ".join(sys.argv[1:])}


def canonical(value: Any) -> bytes:
    """JSON that is the same on every machine, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()
