"""What a gallery holds: one small JSON file that names the parts. Publishing it is what commits a change.

Readers know a part only through the manifest, so a part that was never published does not exist, however much of it
was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from occframe.component import Config
from occframe.errors import OccframeError
from occframe.types import ImageSpec

MANIFEST = "manifest.json"
FORMAT = "occframe-gallery"
VERSION = 1

ColumnType = Literal["string", "int64", "float64", "bool", "list<float>"]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class GallerySchema(Config):
    """What every row of a gallery has in common. Two models never mix: the fingerprint is part of it."""

    dim: int = Field(ge=1, le=65_536, description="length D of an embedding")
    dtype: Literal["float16", "float32"] = Field("float16", description="how an embedding is stored, little-endian")
    normalised: Literal[True] = Field(True, description="every embedding has L2 norm 1")
    model_fingerprint: str = Field(min_length=1, description="of the network that made the embeddings")
    image_spec: ImageSpec = Field(description="what that network was fed")
    columns: dict[ColumnName, ColumnType] = Field({}, description="further columns beside id, subject and embedding")
    treatment: dict[str, str] = Field(
        {}, description="what was done to every picture before that network saw it, e.g. {glasses: removed by …}"
    )

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

    @property
    def count(self) -> int:
        """Rows that are not deleted."""
        return self.rows - len(self.tombstones)

    def bury(self, rows: Iterable[int]) -> Part:
        """The same part with these rows deleted too."""
        return self.model_copy(update={"tombstones": tuple(sorted({*self.tombstones, *rows}))})


class Manifest(Config):
    """generation: goes up by one with every commit."""

    format: Literal["occframe-gallery"] = "occframe-gallery"
    version: Literal[1] = 1
    generation: int = Field(ge=0)
    rows_schema: GallerySchema = Field(alias="schema")
    parts: tuple[Part, ...] = ()

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def content_hash(self) -> str:
        """Changes when a row is added, deleted or different; not when the gallery is copied elsewhere."""
        parts = [[part.sha256, part.tombstones] for part in self.parts]
        text = json.dumps([self.rows_schema.model_dump(mode="json"), parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def bury(self, rows: Mapping[str, Iterable[int]]) -> Manifest:
        """With these rows deleted, by the part's file."""
        parts = tuple(part.bury(rows[part.file]) if part.file in rows else part for part in self.parts)
        return self.model_copy(update={"parts": parts})

    def dump(self) -> bytes:
        """As it is stored: JSON, a line for each part however many tombstones it has."""
        head = json.dumps(self.model_dump(mode="json", by_alias=True, exclude={"parts"}), indent=2, ensure_ascii=False)
        parts = ",".join("\n    " + json.dumps(part.model_dump(mode="json")) for part in self.parts)
        return (head.removesuffix("\n}") + f',\n  "parts": [{parts}\n  ]\n}}\n').encode()


def parse_manifest(raw: bytes, path: str) -> Manifest:
    """Raises OccframeError that names ``path``: not a manifest, or not of a version we can read."""
    try:
        value: Any = json.loads(raw)
        if value["format"] != FORMAT:
            raise OccframeError(f"{path} describes `{value['format']}`, not a gallery", remedy="check the path")
        if value["version"] != VERSION:
            raise OccframeError(
                f"{path} has version {value['version']} of the format, this occframe reads {VERSION}",
                remedy="upgrade occframe, or embed again",
            )
        return Manifest.model_validate(value)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fault = _first_fault(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise OccframeError(
            f"{path} is no manifest of a gallery: {fault}", remedy="restore it from a copy, or embed again"
        ) from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(item) for item in first['loc'])}: {first['msg']}"
