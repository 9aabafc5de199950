"""InsightFace's verification sets (``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin`` …): a pickled pair of lists.

A pickle is a program. This reader runs none of it: only opcodes that build lists, tuples, byte strings, numbers and
byte arrays of NumPy are let through, and the one function they may call is ours.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from occframe.errors import OccframeError
from occframe.storage import filesystem

#: The largest known set, of 12,000 pictures, takes 0.1 GiB.
MAX_BYTES = 4 * 2**30
FOLDS = 10

_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT LONG LONG1 BININT BININT1 BININT2
    STRING BINSTRING SHORT_BINSTRING BINBYTES BINBYTES8 SHORT_BINBYTES BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    LIST EMPTY_LIST APPEND APPENDS TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_TUPLE
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_OPCODES = frozenset(_PLAIN.split())
_REMEDY = "fetch it again from where InsightFace's data sets are kept; nothing in it was run"


@dataclass(frozen=True)
class BinPairs:
    """ids: of the pictures that occur, each once, named by their content. pictures: encoded, by id.

    first, second: the ids of each pair. same, folds: of each pair. subjects: by id; people are only known as far as
    genuine pairs tie pictures together.
    """

    pictures: dict[str, bytes]
    first: Sequence[str]
    second: Sequence[str]
    same: Sequence[bool]
    folds: Sequence[int]
    subjects: dict[str, str]


def read_bin(url: str) -> BinPairs:
    """Raises OccframeError: too large, damaged, or not a list of encoded pictures with a list of labels."""
    fs, path = filesystem(url)
    if not fs.isfile(path):
        raise OccframeError(f"no file at {url}", remedy="give the path or URL of a .bin file")
    size = fs.info(path)["size"]
    if size > MAX_BYTES:
        raise OccframeError(f"{url} has {size:,} bytes, more than the {MAX_BYTES:,} that are read", remedy=_REMEDY)
    bins, same = _unpickle(url, fs.cat_file(path))
    if not same or len(bins) != 2 * len(same):
        raise OccframeError(f"{url}: {len(bins)} pictures for {len(same)} pairs", remedy=_REMEDY)
    if sum(map(len, bins)) > 2 * size:
        # A pickle may name one byte string a million times.
        raise OccframeError(f"{url}: its pictures are larger than the file", remedy=_REMEDY)
    names = [hashlib.sha256(picture).hexdigest()[:16] for picture in bins]
    pictures = dict(zip(names, bins, strict=True))
    first, second = names[0::2], names[1::2]
    return BinPairs(pictures, first, second, same, _folds(len(same)), _people(pictures, first, second, same))


def is_bin(data: bytes) -> bool:
    """By its first bytes: pickles of protocol 2 on begin with their number; those before, with a mark or a list."""
    return data[:1] == b"\x80" or data[:2] in (b"(l", b"((", b"(]")


def _folds(count: int) -> list[int]:
    """Ten runs of neighbours, the first ones longer by one: as scikit-learn's KFold without shuffling."""
    sizes = [count // FOLDS + (fold < count % FOLDS) for fold in range(FOLDS)]
    return [fold for fold, size in enumerate(sizes) for _ in range(size)]


def _people(
    pictures: dict[str, bytes], first: Sequence[str], second: Sequence[str], same: Sequence[bool]
) -> dict[str, str]:
    """Pictures that genuine pairs connect are one person, named by the least of their ids."""
    leader = {name: name for name in pictures}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for one, other, genuine in zip(first, second, same, strict=True):
        if genuine:
            low, high = sorted((find(one), find(other)))
            leader[high] = low
    return {name: find(name) for name in pictures}


def _unpickle(url: str, data: bytes) -> tuple[list[bytes], list[bool]]:
    try:
        _check_opcodes(data)
        value = _Reader(io.BytesIO(data), encoding="bytes").load()
        bins, same = value
        labels = list(same.data) if isinstance(same, _Bytes) else same
        return [_picture(item) for item in bins], [_label(item) for item in labels]
    except OccframeError as error:
        raise OccframeError(f"{url}: {error.message}", remedy=_REMEDY) from None
    except Exception as error:  # whatever a damaged pickle makes of itself
        raise OccframeError(f"{url} is no InsightFace .bin: {type(error).__name__}: {error}", remedy=_REMEDY) from None


def _check_opcodes(data: bytes) -> None:
    for count, (opcode, argument, place) in enumerate(pickletools.genops(io.BytesIO(data))):
        if opcode.name not in _OPCODES:
            raise OccframeError(f"opcode {opcode.name} at byte {place}, which a list of pictures does not need")
        # The reader makes room for every number up to this one.
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise OccframeError(f"memo {argument} at byte {place}, of {count} opcodes")


class _Bytes:
    """Stands for a NumPy array of bytes while it is read."""

    __slots__ = ("data",)

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __setstate__(self, state: Any) -> None:
        *_, kind, _, data = state
        self.data = _array_data(kind, data)


class _Dtype:
    __slots__ = ("name",)

    def __init__(self, name: Any) -> None:
        self.name = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment mean nothing for single bytes."""


class _Standin:
    """Called in place of the function a pickle names. Nothing can be set on it: a pickle may try."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise OccframeError("it changes a function")


def _array_data(kind: Any, data: Any) -> bytes:
    if not isinstance(kind, _Dtype) or kind.name not in ("u1", "b1", "|u1", "|b1"):
        raise OccframeError("an array that is not of bytes")
    if type(data) not in (bytes, bytearray):
        raise OccframeError("an array without data")
    return bytes(data)


def _scalar(kind: Any, data: Any) -> bool:
    return _label(int.from_bytes(_array_data(kind, data), "little"))


def _latin(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes byte strings for readers of protocol 2."""
    if encoding not in ("latin1", b"latin1"):
        raise OccframeError(f"encoding {encoding!r}")
    return text.encode("latin1") if isinstance(text, str) else bytes(text)


_STANDINS = {
    ("_codecs", "encode"): _Standin(_latin),
    ("numpy", "dtype"): _Standin(lambda name, *_: _Dtype(name)),
    ("numpy", "ndarray"): _Standin(lambda *_: _Bytes()),
}
for _package in ("numpy.core", "numpy._core"):  # as it was called before and since NumPy 2
    _STANDINS |= {
        (f"{_package}.multiarray", "_reconstruct"): _Standin(lambda *_: _Bytes()),
        (f"{_package}.multiarray", "scalar"): _Standin(_scalar),
        (f"{_package}.numeric", "_frombuffer"): _Standin(lambda data, kind, *_: _Bytes(_array_data(kind, data))),
    }


class _Reader(pickle.Unpickler):
    """Knows no module but the few names above, and gives stand-ins of ours for them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STANDINS:
            raise OccframeError(f"it names {module}.{name}, which a list of pictures does not need")
        return _STANDINS[module, name]


def _picture(item: Any) -> bytes:
    data = item.data if isinstance(item, _Bytes) else item
    if type(data) is not bytes or not data:
        raise OccframeError(f"a picture that is a {type(item).__name__}")
    return data


def _label(item: Any) -> bool:
    if type(item) not in (bool, int) or item not in (0, 1):
        raise OccframeError(f"a label that is {item!r}")
    return bool(item)
