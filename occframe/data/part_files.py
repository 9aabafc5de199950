"""A data set of faces as a folder of part files, made one after another: what was finished is not made again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from occframe.step import Progress

#: Faces a part file answers for: what a killed step does again at most.
PART_ROWS = 2048
#: Columns a face has by itself, as ``FaceParquetWriter`` and the `align` step write them.
FACE_COLUMNS = frozenset({"id", "identity", "image", "landmarks", "source_height", "source_width", "detector_score"})


def parts(total: int, size: int) -> Iterator[tuple[int, str, range]]:
    """(number, file name, rows) of every part file of ``size`` faces out of ``total``."""
    for number, start in enumerate(range(0, total, size)):
        yield number, f"part-{number:05}.parquet", range(start, min(start + size, total))


def unfinished_parts(folder: str, total: int, size: int, progress: Progress) -> Iterator[tuple[str, range]]:
    """(URL, rows) of the part files that are not in ``folder`` yet, which is made. ``progress`` passes the others."""
    from occframe.storage import exists, join, make_dirs

    make_dirs(folder)
    for _, name, rows in parts(total, size):
        if exists(url := join(folder, name)):
            progress.advance(len(rows))
        else:
            yield url, rows


def carried_columns(
    attributes: Mapping[str, np.ndarray], *, without: Collection[str]
) -> dict[str, tuple[type, np.ndarray]]:
    """Attributes that go on with the faces: name -> (str, int, float or bool, values). Types come from all values.

    without: names that the new data set has another use for.
    """
    kinds = {"b": bool, "i": int, "u": int, "f": float}
    return {
        name: (kinds.get(values.dtype.kind) or _kind_of_objects(values), values)
        for name, values in attributes.items()
        if name not in without
    }


def carried_values(carried: Mapping[str, tuple[type, np.ndarray]], row: int) -> dict[str, Any]:
    """What ``FaceParquetWriter.add`` takes for one row of ``carried_columns``."""
    return {name: None if values[row] is None else kind(values[row]) for name, (kind, values) in carried.items()}


def _kind_of_objects(values: np.ndarray) -> type:
    """bool where all that is known is: Parquet's booleans come as objects where some are missing. Else text."""
    known = [value for value in values.tolist() if value is not None]
    return bool if known and all(isinstance(value, bool) for value in known) else str
