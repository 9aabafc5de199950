"""The code on docs/gallery_search.md runs, and its commands and options are those there are."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from occframe.cli.gallery import VERBS
from occframe.gallery import GallerySchema, GalleryWriter
from occframe.types import ImageSpec

PAGE = (Path(__file__).parents[2] / "docs" / "gallery_search.md").read_text()


def test_the_code_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    drawn = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    with GalleryWriter(str(tmp_path), GallerySchema(dim=16, model_fingerprint="m", image_spec=ImageSpec())) as writer:
        writer.write([f"p{row}" for row in range(50)], ["visitor"] * 25 + ["other"] * 25, drawn)
    names: dict[str, Any] = {"url": str(tmp_path), "queries": drawn[:2]}
    exec(code, names)
    assert names["hits"].ids[:, 0].tolist() == ["p0", "p1"]
    assert names["after"].ids[0, 0] == names["hits"].ids[0, 1]
    assert all(int(name[1:]) >= 25 for name in names["some"].ids.ravel())


def test_commands_and_options_are_those_there_are() -> None:
    for line in re.findall(r"^occframe gallery .*$", PAGE, re.MULTILINE):
        verb = line.split()[2]
        module, _, name = VERBS[verb][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in line.split() if re.fullmatch(r"-\w|--[a-z-]+", word)} <= known, line


def test_the_profiles_are_those_there_are() -> None:
    from typing import get_args

    from occframe_faiss.configs import Profile

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)) == set(get_args(Profile))
