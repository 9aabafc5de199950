"""What a gallery holds: one small JSON file that names the parts. Publishing it is what commits a change.

Readers know a part only through the manifest, so a part that was never published does not exist, however much of it
was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from occframe.component import Config
from occframe.errors import OccframeError
from occframe.storage import exists, join, local_path, read_bytes, write_json
from occframe.types import ImageSpec

MANIFEST = "manifest.json"
LOCK = "manifest.lock"
FORMAT = "occframe-gallery"
VERSION = 1

ColumnType = Literal["string", "int64", "float64", "bool"]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class GallerySchema(Config):
    """What every row of a gallery has in common. Two models never mix: the fingerprint is part of it."""

    dim: int = Field(ge=1, le=65_536, description="length D of an embedding")
    dtype: Literal["float16", "float32"] = Field("float16", description="how an embedding is stored, little-endian")
    normalised: Literal[True] = Field(True, description="every embedding has L2 norm 1")
    model_fingerprint: str = Field(min_length=1, description="of the network that made the embeddings")
    image_spec: ImageSpec = Field(description="what that network was fed")
    columns: dict[ColumnName, ColumnType] = Field({}, description="further columns beside id, subject and embedding")

    @field_validator("columns")
    @classmethod
    def _not_ours(cls, columns: dict[str, ColumnType]) -> dict[str, ColumnType]:
        if taken := {"id", "subject", "embedding"} & set(columns):
            raise ValueError(f"{', '.join(sorted(taken))} is a column of every gallery")
        return columns

    @property
    def row_bytes(self) -> int:
        return self.dim * (2 if self.dtype == "float16" else 4)


class Part(Config):
    """One Parquet file. tombstones: its deleted rows, ascending; rows counts them too."""

    # A manifest may come from a stranger: a name is a plain file beside it, never a path.
    file: str = Field(pattern=r"^part-[A-Za-z0-9-]+\.parquet$")
    rows: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tombstones: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _tombstones_are_rows(self) -> Part:
        ascending = list(self.tombstones) == sorted(set(self.tombstones))
        if self.tombstones and not (ascending and 0 <= self.tombstones[0] <= self.tombstones[-1] < self.rows):
            raise ValueError(f"the tombstones of {self.file} are not rows of it")
        return self


class Manifest(Config):
    """generation: goes up by one with every commit."""

    format: Literal["occframe-gallery"] = "occframe-gallery"
    version: Literal[1] = 1
    generation: int = Field(ge=0)
    rows_schema: GallerySchema = Field(alias="schema")
    parts: tuple[Part, ...] = ()

    @property
    def count(self) -> int:
        return sum(part.rows - len(part.tombstones) for part in self.parts)

    @property
    def content_hash(self) -> str:
        """Changes when a row is added, deleted or different; not when the gallery is copied elsewhere."""
        parts = [[part.sha256, part.tombstones] for part in self.parts]
        text = json.dumps([self.rows_schema.model_dump(mode="json"), parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(url: str) -> Manifest:
    """The manifest of the gallery at ``url``. Raises OccframeError: there is none, or it is not one we can read."""
    path = join(url, MANIFEST)
    if not exists(path):
        raise OccframeError(
            f"there is no gallery at {url}: no {MANIFEST}",
            remedy="check the path; an `embed` step makes a gallery",
        )
    try:
        raw = json.loads(read_bytes(path))
        if raw["format"] != FORMAT:
            raise OccframeError(f"{path} describes `{raw['format']}`, not a gallery", remedy="check the path")
        if raw["version"] != VERSION:
            raise OccframeError(
                f"{path} has version {raw['version']} of the format, this occframe reads {VERSION}",
                remedy="upgrade occframe, or embed again",
            )
        return Manifest.model_validate(raw)
    except (ValueError, KeyError, TypeError) as error:
        fault = _first_fault(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise OccframeError(
            f"{path} is no manifest of a gallery: {fault}", remedy="restore it from a copy, or embed again"
        ) from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(item) for item in first['loc'])}: {first['msg']}"


def publish(url: str, manifest: Manifest) -> None:
    """Commit ``manifest``, the successor of the one now published.

    Raises OccframeError where somebody else has committed meanwhile: their rows would be lost. On a local disk a lock
    makes that certain. Elsewhere two commits at the same instant may both pass, and one is lost: the caller sees to it
    that a remote gallery has one writer at a time.
    """
    with _alone(url):
        _publish(url, manifest)


def _publish(url: str, manifest: Manifest) -> None:
    path = join(url, MANIFEST)
    found = read_manifest(url).generation if exists(path) else -1
    if found != manifest.generation - 1:
        raise OccframeError(
            f"another writer changed the gallery {url} meanwhile (generation {found}, not {manifest.generation - 1})",
            remedy="nothing of this change was kept: open it again and repeat it, one writer at a time",
        )
    write_json(path, manifest.model_dump(mode="json", by_alias=True))


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Of all threads and processes that publish in the local gallery at ``url`` one is in here; the others wait."""
    folder = local_path(url)
    if folder is None:
        yield  # no lock works on every object store, and a claim left by a killed writer would bar all later ones
        return
    import fcntl

    path = folder / LOCK
    with ExitStack() as held:
        try:
            # Never deleted: who waits for a deleted file is not kept out by who locks the next one of that name.
            file = held.enter_context(open(path, "ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise OccframeError(
                f"cannot lock {path}: {error.strerror or error}",
                remedy="check that the gallery is still there, its file system writable, not full and able to flock",
            ) from error
        try:
            yield
        finally:
            # Closing is not enough: a process forked meanwhile has the file open too, and would keep the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
