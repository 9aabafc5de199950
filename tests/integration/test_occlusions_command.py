"""``occframe occlusions``: listing and previewing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from occframe.data import FaceParquetWriter
from occframe.errors import ConfigError, OccframeError
from occframe_datasets.synthetic import SyntheticFaces
from occframe_occlusions.cli import occlusions


def run(*arguments: str) -> str:
    done = CliRunner().invoke(occlusions, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_names_every_generator() -> None:
    names = {row["name"] for row in json.loads(run("list", "--json"))}
    assert {"glasses", "medical-mask", "rectangles", "sprites", "choice"} <= names
    assert "rimless" not in run("list")
    assert "glasses" in run("list")


def test_a_sheet_shows_before_after_and_mask(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    drawn = SyntheticFaces(3, 1, 112, 0)
    for row, picture in enumerate(drawn.read([0, 1, 2])):
        cv2.imwrite(str(folder / f"{row}.png"), picture[:, :, ::-1])
    (folder / "notes.txt").write_text("not a picture")
    out = tmp_path / "sheet.png"
    said = run("preview", "--use", "scarf", "--severity", "0.5", "--images", str(folder), "-o", str(out))
    assert "3 faces" in said
    before, after, mask = np.split(cv2.imread(str(out)), 3)
    assert before.shape == (112, 3 * 112, 3)
    assert np.array_equal(before[:, :112, ::-1], drawn.read([0])[0])
    assert (before != after).any()
    assert not ((before != after).any(axis=2) & (mask.max(axis=2) == 0)).any()


def test_a_sheet_of_an_occluded_set(tmp_path: Path) -> None:
    drawn = SyntheticFaces(3, 1, 112, 0)
    (tmp_path / "faces.parquet").mkdir()
    for part in range(3):
        with FaceParquetWriter(str(tmp_path / "faces.parquet" / f"{part}.parquet")) as writer:
            writer.add(drawn.ids[part], drawn.subjects[part], drawn.read([part])[0], drawn.landmarks[part])
    out = tmp_path / "sheet.png"
    assert "3 faces" in run("preview", "--use", "hat", "--images", str(tmp_path / "faces.parquet"), "-o", str(out))
    assert np.array_equal(cv2.imread(str(out))[:112, :112, ::-1], drawn.read([0])[0])


def test_options_are_checked(tmp_path: Path) -> None:
    out = str(tmp_path / "sheet.png")
    with pytest.raises(ConfigError, match="did you mean `shapes`"):
        run("preview", "--use", "glasses", "--set", "shape=[round]", "-o", out)
    with pytest.raises(ConfigError, match="did you mean `glasses`"):
        run("preview", "--use", "glases", "-o", out)
    done = CliRunner().invoke(occlusions, ["preview", "--use", "glasses", "--set", "round", "-o", out])
    assert done.exit_code == 2
    assert "KEY=VALUE" in done.output
    (tmp_path / "empty").mkdir()
    with pytest.raises(OccframeError, match="no picture"):
        run("preview", "--use", "glasses", "--images", str(tmp_path / "empty"), "-o", out)
