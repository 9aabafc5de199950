"""Is every committed byte there and as it was written, and is there anything else?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from occframe.errors import OccframeError
from occframe.gallery.checks import NORM_TOLERANCE
from occframe.gallery.garbage import GRACE, find_garbage, remove_garbage
from occframe.gallery.manifest import GallerySchema, Part
from occframe.gallery.parts import part_column, read_live, verify_part
from occframe.gallery.publishing import read_manifest
from occframe.storage import join


@dataclass(frozen=True)
class Verified:
    """rows: live ones. problems: what is wrong with committed data, each naming its file. garbage: names of files that
    belong to nothing; removed: those of them that a repair took away.
    """

    rows: int
    problems: tuple[str, ...]
    garbage: tuple[str, ...]
    removed: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def check_gallery(
    url: str, *, repair: bool = False, grace: timedelta = GRACE, advance: Callable[[int], None] = lambda size: None
) -> Verified:
    """Read everything and compare it with what was written: hashes, rows, norms, ids that must be unique.

    repair: remove garbage, and nothing else. Where a lock tells of a writer at work, or a file on a remote store is
    younger than ``grace``, it stays. advance: told of bytes read.
    Raises OccframeError where there is no manifest to go by; then nothing is removed.
    """
    manifest = read_manifest(url)
    problems, ids = [], []
    for part in manifest.parts:
        try:
            verify_part(url, part, advance)
            _check_vectors(url, part, manifest.rows_schema)
            ids.append(part_column(url, part, "id"))
        except OccframeError as error:
            problems.append(error.message)
    twice = _repeated(pa.chunked_array(ids, pa.large_string()))
    if twice:
        problems.append(f"the id `{twice}` occurs more than once in {url}")
    garbage = [found.name for found in find_garbage(url, manifest)]
    removed = remove_garbage(url, grace)[0] if repair and garbage else []
    return Verified(manifest.count, tuple(problems), tuple(garbage), tuple(removed))


def _check_vectors(url: str, part: Part, schema: GallerySchema) -> None:
    for group in read_live(url, part, schema, ["id"]):
        wide = group.vectors.astype(np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        bad = np.flatnonzero(~(np.abs(norms - 1) <= 2 * NORM_TOLERANCE))
        if len(bad):
            raise OccframeError(
                f"{join(url, part.file)}: the embedding of `{group.columns['id'][int(bad[0])]}` has norm "
                f"{norms[bad[0]]:.4g}, not 1"
            )


def _repeated(ids: pa.ChunkedArray) -> str | None:
    if len(ids) == pc.count_distinct(ids).as_py():
        return None
    counted = ids.value_counts()
    return str(counted.field("values")[int(np.argmax(counted.field("counts")))])
