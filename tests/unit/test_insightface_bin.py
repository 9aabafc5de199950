"""InsightFace's pickles: read as data, whoever wrote them, and never run."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occframe.errors import OccframeError
from occframe.evaluation.insightface_bin import read_bin
from occframe.evaluation.pairs import parse_pairs

PICTURES = [b"\xff\xd8one", b"\xff\xd8two", b"\xff\xd8three", b"\xff\xd8four", b"\xff\xd8one", b"\xff\xd8four"]
SAME = [True, False, True]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], str]:
    def write(data: bytes) -> str:
        (tmp_path / "set.bin").write_bytes(data)
        return str(tmp_path / "set.bin")

    return write


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("as_arrays", [False, True])
def test_sets_of_every_protocol_are_read(written: Callable[[bytes], str], protocol: int, as_arrays: bool) -> None:
    """Bytes, or NumPy arrays of bytes with NumPy booleans, as the project has written them over the years."""
    bins: list[Any] = [np.frombuffer(item, np.uint8) for item in PICTURES] if as_arrays else list(PICTURES)
    same: list[Any] = [np.bool_(item) for item in SAME] if as_arrays else list(SAME)
    found = read_bin(written(pickle.dumps((bins, same), protocol)))
    assert [found.pictures[name] for name in found.first] == PICTURES[0::2]
    assert [found.pictures[name] for name in found.second] == PICTURES[1::2]
    assert list(found.same) == SAME
    one, two, three, four = (name for name in found.pictures)
    # One and four are a genuine pair, one and two as well: three of the four pictures are one person.
    assert found.subjects[one] == found.subjects[two] == found.subjects[four] != found.subjects[three]


def test_what_python_2_wrote_is_read(written: Callable[[bytes], str]) -> None:
    """``pickle.dump((bins, same), file, 2)`` of Python 2, whose byte strings are text to Python 3."""
    strings = b"".join(b"U" + bytes([len(item)]) + item for item in PICTURES[:2])
    found = read_bin(written(b"\x80\x02](" + strings + b"e]\x88a\x86."))
    assert list(found.pictures.values()) == PICTURES[:2]


def test_folds_are_runs_of_neighbours(written: Callable[[bytes], str]) -> None:
    pictures = [bytes([255, number]) for number in range(46)]
    pairs = parse_pairs(written(pickle.dumps((pictures, [True, False] * 11 + [True]))))
    assert [pair.fold for pair in pairs] == [0, 0, 0, 1, 1, 1, 2, 2, 2, *(fold for fold in range(3, 10) for _ in "ab")]
    assert [pair.same for pair in pairs] == [True, False] * 11 + [True]


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_run(tmp_path: Path, written: Callable[[bytes], str]) -> None:
    with pytest.raises(OccframeError, match=r"it names posix\.mkdir"):
        read_bin(written(pickle.dumps(([Runs(tmp_path / "made")], [True]))))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x04cbuiltins\neval\n(S'1'\ntR.", r"it names builtins\.eval"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}b.", "opcode EMPTY_DICT"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n]b.", "changes a function"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "memo 2147483647 at byte 3"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.", "no InsightFace .bin"),
        (b"\x80\x04", "no InsightFace .bin"),
        (pickle.dumps(PICTURES), "no InsightFace .bin"),
        (pickle.dumps((PICTURES, SAME[:2])), "6 pictures for 2 pairs"),
        (pickle.dumps(([], [])), "0 pictures for 0 pairs"),
        (pickle.dumps((PICTURES, [1, 2, 0])), "a label that is 2"),
        (pickle.dumps((["text"] * 6, SAME)), "a picture that is a str"),
        (pickle.dumps(([np.zeros(3)] * 6, SAME), 2), "an array that is not of bytes"),
        (pickle.dumps(([b"x" * 1000] * 200, [True] * 100)), "larger than the file"),
    ],
)
def test_anything_else_is_refused(data: bytes, message: str, written: Callable[[bytes], str]) -> None:
    with pytest.raises(OccframeError, match=message):
        read_bin(written(data))


def test_a_number_of_objects_cannot_run_either(written: Callable[[bytes], str]) -> None:
    """Python 2's way of making objects, and persistent ids."""
    for data in (b"(lp0\n(i__builtin__\nlist\n.", b"\x80\x04Pname\n.", b"(cos\nsystem\n."):
        out = io.BytesIO(data)
        with pytest.raises(OccframeError):
            read_bin(written(out.getvalue()))
