"""Marks of synthesised pictures: there for other programs, gone from none of the pixels."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

from occframe.data import decode
from occframe.errors import OccframeError
from occframe.marking import SOURCE_TYPE, mark_synthesised, synthesised_comment

COMMENT = "glasses removed: synthesised – ünïcode"


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_mark_is_read_back_and_changes_no_pixel(picture: np.ndarray, suffix: str) -> None:
    plain = cv2.imencode(suffix, picture)[1].tobytes()
    marked = mark_synthesised(plain, COMMENT)
    assert synthesised_comment(plain) is None
    assert synthesised_comment(marked) == COMMENT
    assert np.array_equal(decode(marked), decode(plain))
    assert synthesised_comment(cv2.imencode(suffix, decode(marked))[1].tobytes()) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_another_program_finds_the_mark(picture: np.ndarray, suffix: str) -> None:
    image = pytest.importorskip("PIL.Image")
    opened = image.open(io.BytesIO(mark_synthesised(cv2.imencode(suffix, picture)[1].tobytes(), COMMENT)))
    opened.load()
    if suffix == ".png":
        assert opened.text["Comment"] == COMMENT
        assert SOURCE_TYPE in opened.text["XML:com.adobe.xmp"]
    else:
        assert opened.info["comment"].decode() == COMMENT
        assert SOURCE_TYPE.encode() in opened.info["xmp"]


def test_what_cannot_be_marked() -> None:
    with pytest.raises(OccframeError, match="only PNG and JPEG"):
        mark_synthesised(b"BM1234", COMMENT)
    with pytest.raises(OccframeError, match="1001 characters"):
        mark_synthesised(b"\x89PNG\r\n\x1a\n", "a" * 1001)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x00\xff", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xff"]
)
def test_damaged_files_carry_no_mark(data: bytes) -> None:
    assert synthesised_comment(data) is None
