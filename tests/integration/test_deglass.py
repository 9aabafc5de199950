"""``occframe deglass``: photographs and crops in, the same out but for glasses; with networks that learnt nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from occframe.cli import cli
from occframe.component import AlignerBlock, BackboneBlock, BuildContext, GeneratorBlock
from occframe.data import decode
from occframe.errors import OccframeError
from occframe.face_frame import template_landmarks
from occframe.generators import LoadedGenerator, save_generator
from occframe.marking import GLASSES_REMOVED, synthesised_comment
from occframe.models import save_model
from occframe.plugins import PluginRegistry
from occframe.removal import Remover
from occframe.standalone import parse_block
from occframe.types import DetectedFace, GeneratorOutput, ImageSpec
from occframe_deglass.photographs import Photographs, change_mask, paste_back

BUILD = BuildContext(PluginRegistry.discover())
TEMPLATE = template_landmarks(112, 112).numpy()


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(60, 200, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Crop pixel -> picture pixel."""
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, [x, y]])


# --- paste back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (2.6, 17.0), (0.45, -30.0)])
def test_a_change_comes_back_where_it_belongs(scale: float, degrees: float) -> None:
    picture = np.full((400, 400, 3), 120, np.uint8)
    to_picture = similarity(scale, degrees, 120, 110)
    transform = cv2.invertAffineTransform(to_picture)
    crop = cv2.warpAffine(picture, transform, (112, 112))
    made = crop.copy()
    cv2.circle(made, (40, 56), 10, (250, 250, 250), -1)
    out = paste_back(picture, crop, made, transform)
    weight = out.astype(float).sum(2) - 360
    y, x = np.mgrid[:400, :400]
    centre = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    assert centre == pytest.approx(to_picture @ [40, 56, 1], abs=0.6)
    inside = cv2.warpAffine(np.ones((112, 112), np.uint8), to_picture, (400, 400))
    grown = cv2.dilate(inside, np.ones((5, 5), np.uint8))
    assert np.array_equal(out[grown == 0], picture[grown == 0])
    middle = np.rint(to_picture @ [40, 56, 1]).astype(int)
    assert out[middle[1], middle[0], 0] > 230


def test_what_the_generator_left_alone_stays_bit_by_bit() -> None:
    picture = smooth(200, 300)
    transform = cv2.invertAffineTransform(similarity(1.3, 9, 80, 20))
    crop = cv2.warpAffine(picture, transform, (112, 112))
    assert np.array_equal(paste_back(picture, crop, crop.copy(), transform), picture)
    noisy = np.clip(crop.astype(int) + np.random.default_rng(0).integers(-2, 3, crop.shape), 0, 255).astype(np.uint8)
    assert np.array_equal(paste_back(picture, crop, noisy, transform), picture)


def test_the_border_of_a_crop_leaves_no_seam() -> None:
    crop = np.full((112, 112, 3), 100, np.uint8)
    mask = change_mask(crop, np.full_like(crop, 180))
    assert mask[56, 56] == pytest.approx(1, abs=0.01)
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert edge.max() == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.25


@pytest.mark.parametrize("place", [(-60, -50), (330, 150), (500, 500)])
def test_a_face_that_leaves_the_picture(place: tuple[int, int]) -> None:
    picture = smooth(200, 360)
    transform = cv2.invertAffineTransform(similarity(1.0, 0, *place))
    crop = cv2.warpAffine(picture, transform, (112, 112), borderMode=cv2.BORDER_REPLICATE)
    out = paste_back(picture, crop, 255 - crop, transform)
    assert out.shape == picture.shape
    assert np.array_equal(out, picture) == (place == (500, 500))


# --- several faces ----------------------------------------------------------------------------------------------------


class Invert(nn.Module):
    def forward(self, images: torch.Tensor) -> GeneratorOutput:
        return GeneratorOutput(-images)


@dataclass
class Finds:
    faces: list[DetectedFace]

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        return self.faces


def found(to_picture: np.ndarray, score: float) -> DetectedFace:
    points = TEMPLATE @ to_picture[:, :2].T + to_picture[:, 2]
    return DetectedFace((*points.min(0), *np.ptp(points, axis=0)), points.astype(np.float32), score)


def test_every_face_of_a_photograph_that_scores_enough() -> None:
    unused: Any = type("Block", (), {"use": "invert"})()
    remover = Remover(LoadedGenerator(Invert(), ImageSpec(), "1" * 64, unused, "cpu", unused), None, precision="fp32")
    aligner = BUILD.build(parse_block(AlignerBlock, {"use": "arcface"}, BUILD))
    picture = smooth(240, 600)
    places = [similarity(1.2, 10, 40, 30), similarity(0.9, -5, 240, 60), similarity(1, 0, 440, 60)]
    faces = [found(place, score) for place, score in zip(places, (0.9, 0.8, 0.2), strict=True)]
    line = DetectedFace((0, 0, 9, 9), np.stack([np.arange(5.0), np.arange(5.0)], 1), 0.95)  # no face's landmarks
    out, told = Photographs(remover, Finds([line, *faces]), aligner).remove(picture)
    assert [face.score for face in told] == [0.9, 0.8]
    assert {face.outcome for face in told} == {"removed"}
    for place, changed in zip(places, (True, True, False), strict=True):
        x, y = np.rint(place @ [56, 56, 1]).astype(int)
        expected = 255 - picture[y, x] if changed else picture[y, x]
        assert np.abs(out[y, x].astype(int) - expected).max() <= 6
    nobody, told = Photographs(remover, Finds([]), aligner).remove(picture)
    assert nobody is picture
    assert told == []


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A generator with random weights, and recognisers that say ``none`` and ``eyeglasses`` of every face."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    block = parse_block(GeneratorBlock, {"use": "cse", "width": 4, "blocks": 1}, BUILD)
    save_generator(str(folder / "generator"), BUILD.build(block), block)
    block = parse_block(BackboneBlock, {"use": "glasses-recogniser", "width": 4}, BUILD)
    for name, bias in {"none": [9.0, 0, 0], "eyeglasses": [0, 9.0, 0]}.items():
        network = BUILD.build(block)
        network.head[1].weight.data.zero_()
        network.head[1].bias.data = torch.tensor(bias)
        save_model(str(folder / name), network, block)
    return {name: str(folder / name) for name in ("generator", "none", "eyeglasses")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    (source / "more").mkdir(parents=True)
    for number, name in enumerate(["a.jpg", "b.png", "more/c.webp"]):
        (source / name).write_bytes(cv2.imencode(Path(name).suffix, smooth(112, 112, number))[1].tobytes())
    (source / "notes.txt").write_text("no picture")
    (source / "broken.jpg").write_bytes(b"\xff\xd8rubbish")
    return source


def deglass(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["deglass", *map(str, arguments)])


def test_a_folder_of_crops(tmp_path: Path, folder: Path, models: dict[str, str]) -> None:
    out = tmp_path / "out"
    result = deglass(folder, out, "--aligned", "--generator", models["generator"], "--every-face", "--json")
    assert result.exit_code == 0, result.output
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(item["out"]).relative_to(out).as_posix() for item in told] == ["a.jpg", "b.png", "more/c.png"]
    assert all(item["synthesised"] and item["faces"][0]["outcome"] == "removed" for item in told)
    assert all(item["faces"][0]["glasses"] is None for item in told)
    assert "broken.jpg" in result.stderr
    for name in ("a.jpg", "b.png", "more/c.png"):
        encoded = (out / name).read_bytes()
        assert synthesised_comment(encoded) == GLASSES_REMOVED
        assert decode(encoded).shape == (112, 112, 3)
    assert not (out / "broken.jpg").exists()


def test_a_picture_without_glasses_is_copied_byte_by_byte(tmp_path: Path, folder: Path, models: dict[str, str]) -> None:
    out = tmp_path / "copy.jpg"
    options = ["--aligned", "--generator", models["generator"], "--recogniser", models["none"]]
    result = deglass(folder / "a.jpg", out, *options)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == (folder / "a.jpg").read_bytes()
    assert "no glasses" in result.output
    assert deglass(folder / "more" / "c.webp", tmp_path / "c.png", *options).exit_code == 0
    converted = (tmp_path / "c.png").read_bytes()
    assert synthesised_comment(converted) is None
    assert np.array_equal(decode(converted), decode((folder / "more" / "c.webp").read_bytes()))


def test_where_the_glasses_stay_the_picture_stays(tmp_path: Path, folder: Path, models: dict[str, str]) -> None:
    options = ["--aligned", "--generator", models["generator"], "--recogniser", models["eyeglasses"]]
    result = deglass(folder / "b.png", tmp_path, *options)  # a folder: the name stays
    assert "still glasses" in result.output
    assert (tmp_path / "b.png").read_bytes() == (folder / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no generator is named"),
        (["--generator", "GENERATOR"], "no glasses recogniser is named"),
        (["--generator", "nowhere/generator", "--every-face"], "nowhere/generator"),
        (["--generator", "GENERATOR", "--recogniser", "GENERATOR"], "is no model description"),
    ],
)
def test_what_is_missing_is_told_with_the_way_to_it(
    tmp_path: Path, folder: Path, models: dict[str, str], options: list[str], said: str
) -> None:
    options = [models["generator"] if option == "GENERATOR" else option for option in options]
    result = deglass(folder, tmp_path / "out", "--aligned", *options)
    assert result.exit_code != 0
    assert isinstance(result.exception, OccframeError)
    assert said in str(result.exception)
    assert result.exception.remedy
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_its_original(tmp_path: Path, folder: Path, models: dict[str, str]) -> None:
    options = ["--aligned", "--generator", models["generator"], "--every-face"]
    for source, target, said in [
        (folder, folder, "would be written over"),
        (folder / "a.jpg", tmp_path / "a.webp", "written as JPEG or PNG"),
        (folder, folder / "a.jpg", "is a file"),
    ]:
        assert said in str(deglass(source, target, *options).exception)
    (folder / "c.webp").write_bytes((folder / "more" / "c.webp").read_bytes())
    (folder / "c.png").write_bytes((folder / "b.png").read_bytes())
    assert "would both be written" in str(deglass(folder, tmp_path / "out", *options).exception)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pictures" in str(deglass(empty, tmp_path / "out", *options).exception)
