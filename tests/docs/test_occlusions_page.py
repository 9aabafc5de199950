"""docs/occlusions.md: its code reads the masks of an occluded set, and makes its pictures again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from occframe.data import FaceParquetWriter, ParquetFaces, load_faces
from occframe.plugins import PluginRegistry
from occframe.steps import occlude
from occframe_datasets.synthetic import SyntheticFaces
from tests.fakes import FakeStepContext

PAGE = (Path(__file__).parents[2] / "docs" / "occlusions.md").read_text()


def test_the_code_makes_the_stored_pictures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = SyntheticFaces(identities=5, images=2, size=112, seed=0)
    rows = list(range(len(drawn.ids)))
    with FaceParquetWriter(str(tmp_path / "faces.parquet"), aligned=True) as writer:
        for row, picture in zip(reversed(rows), drawn.read(rows[::-1]), strict=True):
            writer.add(drawn.ids[row], drawn.subjects[row], picture, drawn.landmarks[row])
    occlusion = {"use": "choice", "of": [{"occlusion": "medical-mask"}, {"occlusion": "hand"}]}
    options = {"data": "faces", "occlusion": occlusion, "threads": 1}
    folder = tmp_path / "runs" / "sets" / "masked"
    faces = {"faces": ParquetFaces(str(tmp_path / "faces.parquet"))}
    context = FakeStepContext(folder, options, occlude.OccludeConfig, datasets=faces)
    occlude.build(context.config, None).run(context)

    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    written = ParquetFaces(str(folder / "faces.parquet"))
    assert np.array_equal(names["again"].images.permute(0, 2, 3, 1).numpy(), load_faces(written, rows, 112, 112))
    stored = pq.read_table(folder / "faces.parquet", columns=["mask"]).column(0).to_pylist()
    for mask, encoded in zip(names["masks"], stored, strict=True):
        assert np.array_equal(mask, cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE))


def test_every_generator_has_a_row_on_the_page() -> None:
    names = {item.name for item in PluginRegistry.discover().components("occlusion") if item.owner == "occframe"}
    table = PAGE.partition("| name |")[2].partition("\n\n")[0]
    assert names == {name for row in table.splitlines() for name in re.findall(r"`([a-z-]+)`", row.split(" | ")[0])}
