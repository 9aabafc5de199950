"""The code on docs/gallery.md runs, and what the page says of the format is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from occframe.gallery import Gallery
from occframe.gallery.manifest import Manifest

PAGE = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, ours = blocks("python")
    drawn = np.random.default_rng(0).standard_normal((11, 512)).astype(np.float32)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    names = {"url": str(tmp_path), "ids": [f"p{row}" for row in range(10)], "subjects": ["s"] * 10}
    names |= {"vectors": unit[:10], "vector": unit[10:]}
    exec(ours, names)
    assert names["table"].vectors.shape == (10, 512)
    assert capsys.readouterr().out == "10 float16\n1 []\n"
    assert names["matrix"].dtype == np.float16
    np.testing.assert_array_equal(names["best"], names["matrix"][[3, 1]])
    read: dict[str, object] = {"part": min(tmp_path.glob("part-*.parquet"))}
    exec(plain, read)
    np.testing.assert_array_equal(read["vectors"][:10], unit[:10].astype(np.float16))
    assert Gallery.open(str(tmp_path)).count == 11


def test_the_commands_are_those_there_are() -> None:
    from occframe.cli.gallery import VERBS

    shown = re.findall(r"^occframe gallery (\w+) ", PAGE, re.MULTILINE)
    assert set(shown) <= set(VERBS)
    assert len(set(shown)) >= 8


def test_the_manifest_shown_is_one() -> None:
    (shown,) = blocks("json")
    raw = json.loads(shown.replace("51ab…", "51ab" * 16))
    manifest = Manifest.model_validate(raw)
    assert manifest.count == 131_070
