"""What a data set promises: see ``occframe.types.Dataset``."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from occframe.testing.check import check, require
from occframe.testing.subject import Subject
from occframe.types import Dataset


def _decoded(item: Any) -> np.ndarray:
    """[H, W, 3] uint8 RGB."""
    from occframe.data import decode

    if isinstance(item, np.ndarray):
        require(
            item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3, f"a picture is {item.dtype} {item.shape}"
        )
        return item
    require(isinstance(item, bytes), f"read gives {type(item).__name__}, neither bytes nor an array")
    return np.asarray(decode(item))


def _rows(dataset: Any) -> list[int]:
    """Some rows, the first and the last among them."""
    last = len(dataset.ids) - 1
    return list(dict.fromkeys([0, last, last // 2, last // 3]))


@check()
def is_a_data_set(subject: Subject) -> None:
    """It has what the protocol ``Dataset`` asks for, and at least one picture."""
    absent = [name for name in dir(Dataset) if not name.startswith("_") and not hasattr(subject.built, name)]
    require(not absent, f"it has no {', '.join(absent)}")
    require(len(subject.built.ids) > 0, "it is empty")
    require(isinstance(subject.built.aligned, bool), f"aligned is {subject.built.aligned!r}")


@check()
def ids_are_unique_texts(subject: Subject) -> None:
    """Every picture has an id of its own and an identity; both are texts."""
    ids, people = list(subject.built.ids), list(subject.built.subjects)
    require(all(isinstance(name, str) and name for name in ids), "an id is no text, or empty")
    require(len(set(ids)) == len(ids), f"{len(ids) - len(set(ids))} ids occur twice")
    require(len(people) == len(ids), f"{len(people)} identities for {len(ids)} pictures")
    require(all(isinstance(name, str) for name in people), "an identity is no text")


@check()
def columns_have_a_row_each(subject: Subject) -> None:
    """Landmarks are float32 [N, 5, 2] or None; every attribute has N values."""
    dataset = subject.built
    count, points = len(dataset.ids), dataset.landmarks
    if points is not None:
        require(points.shape == (count, 5, 2), f"landmarks have the shape {points.shape}, not {(count, 5, 2)}")
        require(points.dtype == np.float32, f"landmarks are {points.dtype}, not float32")
    for name, values in dataset.attributes.items():
        require(len(values) == count, f"attribute `{name}` has {len(values)} values for {count} pictures")


@check()
def blocks_cover_every_row_once(subject: Subject) -> None:
    """``blocks`` are ranges that hold every row once."""
    blocks = list(subject.built.blocks)
    require(all(isinstance(block, range) for block in blocks), "a block is no range")
    rows = sorted(row for block in blocks for row in block)
    require(rows == list(range(len(subject.built.ids))), "the blocks do not hold every row once")


@check()
def reads_in_the_order_asked_for(subject: Subject) -> None:
    """``read`` gives decodable pictures in the order of the rows, repeated rows too, and nothing for no rows."""
    dataset = subject.built
    require(list(dataset.read([])) == [], "no rows gave pictures")
    rows = _rows(dataset)
    single = [_decoded(dataset.read([row])[0]) for row in rows]
    order = [*reversed(rows), rows[0]]
    found = dataset.read(order)
    require(len(found) == len(order), f"{len(order)} rows gave {len(found)} pictures")
    for row, picture in zip(order, found, strict=True):
        require(np.array_equal(_decoded(picture), single[rows.index(row)]), f"row {row} is another picture in {order}")


@check()
def threads_may_read(subject: Subject) -> None:
    """Several threads reading at once get what one gets."""
    rows = _rows(subject.built)
    expected = [_decoded(item) for item in subject.built.read(rows)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: subject.built.read(rows), range(12)):
            same = all(np.array_equal(_decoded(one), other) for one, other in zip(found, expected, strict=True))
            require(same, "a thread read other pictures")


@check()
def fingerprint_is_stable(subject: Subject) -> None:
    """A second instance of the same data has the same fingerprint, a short text."""
    one, two = subject.built.fingerprint(), subject.build().fingerprint()
    require(isinstance(one, str) and one, f"the fingerprint is {one!r}")
    require(len(one) <= 1000, f"the fingerprint has {len(one)} characters")
    require(one == two, f"two instances have the fingerprints {one!r} and {two!r}")


@check()
def a_second_instance_is_equal(subject: Subject) -> None:
    """Built again, it has the same ids, identities and pictures: row numbers mean the same in every run."""
    one, two = subject.built, subject.build()
    require(list(one.ids) == list(two.ids) and list(one.subjects) == list(two.subjects), "ids or identities differ")
    row = len(one.ids) // 2
    require(np.array_equal(_decoded(one.read([row])[0]), _decoded(two.read([row])[0])), f"row {row} is another picture")


@check()
def is_picklable(subject: Subject) -> None:
    """A worker process that is handed the data set reads the same."""
    copy = pickle.loads(pickle.dumps(subject.built))
    require(list(copy.ids) == list(subject.built.ids), "a copy has other ids")
    require(np.array_equal(_decoded(copy.read([0])[0]), _decoded(subject.built.read([0])[0])), "a copy reads otherwise")


@check()
def notes_are_lines(subject: Subject) -> None:
    """``notes``, where they are offered, are texts of one line."""
    notes = getattr(subject.built, "notes", ())
    require(all(isinstance(note, str) and "\n" not in note for note in notes), f"notes are {notes!r}")
