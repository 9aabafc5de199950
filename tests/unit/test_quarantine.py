from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from occframe.data import BadImage, Quarantine
from occframe.errors import OccframeError


def test_it_counts_each_image_once_and_by_reason():
    quarantine = Quarantine()
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            pool.submit(
                quarantine.add, f"id{number % 50}", BadImage("empty file" if number % 5 else "corrupt PNG", "x")
            )
    assert len(quarantine) == 50
    assert quarantine.reasons == {"empty file": 40, "corrupt PNG": 10}
    assert quarantine.summary() == "50 images left out: 40 empty file, 10 corrupt PNG"
    assert Quarantine().summary() == ""


def test_it_writes_json_lines(tmp_path):
    quarantine = Quarantine()
    quarantine.add("b/2.jpg", BadImage("empty file"))
    quarantine.add("a/é.jpg", BadImage("truncated JPEG", "9 bytes"))
    quarantine.write(str(tmp_path / "quarantine.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert lines == [
        {"id": "a/é.jpg", "reason": "truncated JPEG", "detail": "9 bytes"},
        {"id": "b/2.jpg", "reason": "empty file", "detail": ""},
    ]


def test_too_many_stop_the_work_and_say_why():
    quarantine = Quarantine(share=0.1)
    for number in range(10):
        quarantine.add(f"p/{number}.jpg", BadImage("truncated JPEG", "12 bytes"))
    quarantine.check(100)
    quarantine.add("p/10.jpg", BadImage("empty file"))
    with pytest.raises(OccframeError) as caught:
        quarantine.check(100)
    assert "11 of 100 images cannot be read, more than 10%" in caught.value.message
    assert "10 truncated JPEG, 1 empty file" in caught.value.message
    assert "p/0.jpg: truncated JPEG: 12 bytes" in caught.value.message
