from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from occframe.errors import OccframeError
from occframe.storage import read_bytes
from occframe.training.metrics import MetricsLog


def steps(url: str) -> list[int]:
    return [json.loads(line)["step"] for line in read_bytes(url).splitlines()]


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_rewinding_forgets_later_lines_and_half_a_line(tmp_path, scheme) -> None:
    url = f"{scheme}{tmp_path}/metrics.jsonl"
    log = MetricsLog(url)
    log.rewind(0)
    for step in (10, 20, 30):
        log.write({"step": step, "loss": 0.1})
    log.flush()
    if not scheme:
        Path(url).write_bytes(Path(url).read_bytes() + b'{"step": 4')
    again = MetricsLog(url)
    again.rewind(20)
    again.write({"step": 25})
    again.flush()
    assert steps(url) == [10, 20, 25]


def test_a_full_disk_says_so(tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = MetricsLog(str(tmp_path / "metrics.jsonl"))
    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OccframeError, match=r"cannot write .*No space left(.|\n)*goes on from the last checkpoint"):
        log.write({"step": 1})
