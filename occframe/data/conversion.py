"""Any data set to Parquet part files, in pieces: a stopped conversion goes on where it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from occframe.data.decoding import decode
from occframe.data.headers import BadImage
from occframe.data.parquet_writer import FaceParquetWriter
from occframe.data.part_files import carried_columns, carried_values, parts
from occframe.data.quarantine import Quarantine
from occframe.errors import OccframeError
from occframe.random import derive_seed, mix
from occframe.storage import exists, filesystem, join, make_dirs, read_json, write_json
from occframe.types import Dataset

STATE_FILE = "_conversion.json"
DROPPED_FILE = "_dropped.jsonl"
_OWN_COLUMNS = ("id", "identity", "image", "landmarks")
_CHUNK = 512  # pictures read and checked together


@dataclass(frozen=True)
class Conversion:
    """What became of a data set. rows: faces written. dropped: pictures left out, by reason."""

    rows: int
    identities: int
    files: int
    files_before: int
    dropped: Mapping[str, int]


def convert(
    dataset: Dataset,
    url: str,
    *,
    rows_per_file: int,
    shuffle: int | None = None,
    threads: int = 1,
    most_dropped: float = 0.1,
    advance: Callable[[int], None] = lambda rows: None,
) -> Conversion:
    """Write ``dataset`` into folder ``url`` (any fsspec URL) as part files that ``ParquetFaces`` reads.

    Pictures keep their encoded bytes; those that do not decode are left out and listed in ``_dropped.jsonl``.
    shuffle: a seed; the faces in an order drawn with it, so that neighbours are strangers. most_dropped: share of the
    pictures that may be left out before the conversion stops. advance: told how many pictures are done.
    Raises OccframeError where ``url`` holds something else, or too many pictures are bad.
    """
    count = len(dataset.ids)
    plan = {"source": dataset.fingerprint(), "rows": count, "rows_per_file": rows_per_file, "shuffle": shuffle}
    done: dict[str, list[dict[str, str]]] = _begin(url, plan)
    before = len(done)
    order = np.arange(count)
    if shuffle is not None:
        order = order[np.argsort(mix(derive_seed(shuffle, "convert"), 0, order), kind="stable")]
    quarantine = Quarantine(most_dropped)
    for _, name, span in parts(count, rows_per_file):
        rows = order[span.start : span.stop]
        if name in done:
            for line in done[name]:
                quarantine.add(line["id"], BadImage(line["reason"], line["detail"]))
            advance(len(rows))
            continue
        # Written whole or not at all; a kill after this and before the list is renewed only does the file again.
        done[name] = _write_part(dataset, rows, join(url, name), quarantine, threads, advance)
        write_json(join(url, STATE_FILE), plan | {"done": done})
    quarantine.write(join(url, DROPPED_FILE))
    return Conversion(
        rows=count - len(quarantine),
        identities=len(set(dataset.subjects)),
        files=len(done),
        files_before=before,
        dropped=quarantine.reasons,
    )


def _begin(url: str, plan: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Part files that are there, with what was left out of each."""
    state = join(url, STATE_FILE)
    if exists(state):
        found = read_json(state)
        done: dict[str, list[dict[str, str]]] = found.pop("done")
        if found != plan:
            changed = ", ".join(sorted(key for key in plan if found.get(key) != plan[key]))
            raise OccframeError(
                f"{url} holds a conversion of other faces or with other options ({changed})",
                remedy="choose another folder, or remove this one",
            )
        return done
    if exists(url):
        fs, path = filesystem(url)
        if fs.isfile(path) or fs.ls(path, detail=False):
            raise OccframeError(f"{url} is not empty", remedy="choose a folder that is new or empty")
    make_dirs(url)
    write_json(state, dict(plan) | {"done": {}})
    return {}


def _write_part(
    dataset: Dataset,
    rows: np.ndarray,
    url: str,
    quarantine: Quarantine,
    threads: int,
    advance: Callable[[int], None],
) -> list[dict[str, str]]:
    """One file of faces. Returns what was left out, as JSON keeps it."""
    carried = carried_columns(dataset.attributes, without=_OWN_COLUMNS)
    extra = {name: kind for name, (kind, _) in carried.items()}
    dropped = []
    with (
        ThreadPoolExecutor(threads) as pool,
        FaceParquetWriter(url, extra=extra, aligned=dataset.aligned) as writer,
    ):
        for row, picture in _checked(dataset, rows, pool, advance):
            if isinstance(picture, BadImage):
                id = dataset.ids[row]
                quarantine.add(id, picture)
                quarantine.check(len(dataset.ids))
                dropped.append({"id": id, "reason": picture.reason, "detail": picture.detail})
                continue
            # What is unknown among numbers comes as NaN; in the file it is absent.
            values = {name: None if value != value else value for name, value in carried_values(carried, row).items()}
            writer.add(dataset.ids[row], dataset.subjects[row], picture, _points(dataset, row), **values)
    return dropped


def _checked(
    dataset: Dataset, rows: np.ndarray, pool: ThreadPoolExecutor, advance: Callable[[int], None]
) -> Iterator[tuple[int, bytes | np.ndarray | BadImage]]:
    chunks: Sequence[list[int]] = [rows[start : start + _CHUNK].tolist() for start in range(0, len(rows), _CHUNK)]
    for chunk in chunks:
        pictures = dataset.read(chunk)
        yield from zip(chunk, pool.map(_check, pictures), strict=True)
        advance(len(chunk))


def _check(picture: bytes | np.ndarray) -> bytes | np.ndarray | BadImage:
    try:
        if isinstance(picture, bytes):
            decode(picture)
    except BadImage as error:
        return error
    return picture


def _points(dataset: Dataset, row: int) -> np.ndarray | None:
    points = None if dataset.landmarks is None else dataset.landmarks[row]
    return None if points is None or np.isnan(points).any() else points
