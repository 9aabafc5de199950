"""``occframe explain``: a picture and words for why a face matched."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError
from occframe.gallery import GallerySchema, GalleryWriter
from occframe.models import load_model, save_model
from occframe.plugins import PluginRegistry
from occframe_from.command import explain
from occframe_from.explaining import explain_face, nearest
from tests.faces import orl_face

torch.set_num_threads(1)
BUILD = BuildContext(PluginRegistry.discover(), seed=3)
TRUNK = {"use": "mobilefacenet", "input_size": [64, 48], "embedding_dim": 16}


def made(url: Path, **options: Any) -> str:
    """A model whose mask depends on the picture; its predictor always says ``pattern`` where one is given."""
    pattern = options.pop("pattern", None)
    written = {"use": "from", "trunk": TRUNK, "pyramid": 8, "blocks": 4} | options
    block = BackboneBlock.model_validate(written, context={"registry": BUILD.registry})
    model = BUILD.build(block)
    if pattern is not None:
        model.predictor[3].running_mean[pattern] = -50.0
    save_model(str(url), model, block)
    return str(url)


def face(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 48, 3), dtype=np.uint8)


def stored(folder: Path, picture: np.ndarray, name: str = "face.png") -> str:
    cv2.imwrite(str(folder / name), picture[:, :, ::-1])
    return str(folder / name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(explain, list(arguments))


def test_the_answer_is_a_picture(tmp_path: Path) -> None:
    image = stored(tmp_path, face())
    # Pattern 1 of K = 4 is the first block: 12 x 16 pixels of 48 x 64.
    done = run(image, "--model", made(tmp_path / "model", pattern=1))
    assert done.exit_code == 0, done.output
    assert "occluded: x 0 to 12, y 0 to 16 (100% sure)" in done.output
    picture = cv2.imread(str(tmp_path / "face-explained.png"))
    height, width = picture.shape[:2]
    assert height >= 3 * 64
    assert width >= 3 * 3 * 48
    enlarged = cv2.resize(face()[:, :, ::-1], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(picture[12 : 12 + 192, 12 : 12 + 144], enlarged)
    third = picture[12 : 12 + 192, 12 + 2 * (144 + 12) :][:, :144]
    changed = (third != enlarged).any(2)
    assert changed[:48, :36].any()
    assert not changed[60:, 50:].any()  # the frame lies around the first block and nowhere else


def test_the_nearest_of_a_gallery_are_named(tmp_path: Path) -> None:
    url = made(tmp_path / "model")
    model = load_model(url, BUILD)
    vectors = np.concatenate(
        [explain_face(load_model(url, BUILD, purpose="explain"), face(s)).embedding[None] for s in range(4)]
    )
    schema = GallerySchema(dim=16, dtype="float32", model_fingerprint=model.fingerprint, image_spec=model.image_spec)
    with GalleryWriter(str(tmp_path / "gallery"), schema) as writer:
        writer.write([f"id{seed}" for seed in range(4)], ["ann", "bob", "cid", "dan"], vectors)
    image = stored(tmp_path, face(2))
    arguments = ["--model", url, "--gallery", str(tmp_path / "gallery"), "--hits", "3", "--json"]
    told = json.loads(run(image, *arguments, "--out", str(tmp_path / "why.png")).output)
    cosines = vectors @ vectors[2]
    best = np.argsort(-cosines)[:3]
    assert [match["id"] for match in told["matches"]] == [f"id{row}" for row in best]
    assert told["matches"][0]["subject"] == "cid"
    np.testing.assert_allclose([match["cosine"] for match in told["matches"]], cosines[best], atol=1e-4)
    assert set(told) == {"pattern", "probability", "box", "picture", "matches"}
    assert (tmp_path / "why.png").stat().st_size > 1000


def test_the_nearest_of_a_gallery_are_shown(tmp_path: Path) -> None:
    url = made(tmp_path / "model")
    explains = load_model(url, BUILD, purpose="explain")
    people = tmp_path / "people"
    for seed, name in enumerate(["ann", "bob"]):
        (people / name).mkdir(parents=True)
        stored(people / name, face(seed), "1.png")
    vectors = np.stack([explain_face(explains, face(seed)).embedding for seed in range(3)])
    schema = GallerySchema(
        dim=16, dtype="float32", model_fingerprint=explains.fingerprint, image_spec=explains.image_spec
    )
    with GalleryWriter(str(tmp_path / "gallery"), schema) as writer:
        writer.write(["ann/1.png", "bob/1.png", "cid/1.png"], ["ann", "bob", "cid"], vectors)
    image, gallery = stored(tmp_path, face(1)), ["--gallery", str(tmp_path / "gallery")]
    done = run(image, "--model", url, *gallery, "--images", str(people))
    assert done.exit_code == 0, done.output
    picture = cv2.imread(str(tmp_path / "face-explained.png"))
    thumbnail = cv2.resize(face(1)[:, :, ::-1], (48, 64), interpolation=cv2.INTER_AREA)
    found = cv2.matchTemplate(picture, thumbnail, cv2.TM_SQDIFF)
    assert float(found.min()) < 1e-4 * float(found.max())  # (64 * 3 + 28 - 22) // 3 - 2 pixels high

    refused = run(image, "--model", url, "--images", str(people))
    assert "give --gallery too" in refused.output
    (tmp_path / "others" / "dan").mkdir(parents=True)
    stored(tmp_path / "others" / "dan", face(5), "1.png")
    wrong = run(image, "--model", url, *gallery, "--images", str(tmp_path / "others"))
    assert isinstance(wrong.exception, OccframeError)
    assert "has no picture named 'bob/1.png'" in str(wrong.exception)


def test_a_photograph_is_aligned_first(tmp_path: Path) -> None:
    if find_spec("mtcnn") is None:
        pytest.skip("the extra `detect` is not installed: pip install 'occframe[detect]'")
    url = made(tmp_path / "model")
    photo = np.full((260, 330, 3), 128, np.uint8)
    photo[70:182, 110:202] = orl_face(1, 1)
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    done = run(str(tmp_path / "photo.png"), "--model", url, "--detector", "mtcnn")
    assert done.exit_code == 0, done.output
    shown = cv2.imread(str(tmp_path / "photo-explained.png"))[12:204, 12:156]
    whole = cv2.resize(photo, (144, 192), interpolation=cv2.INTER_AREA)
    assert shown.std() > 1.5 * whole.std()  # the face fills the picture, where the photograph is mostly grey
    stored(tmp_path, np.full((120, 120, 3), 128, np.uint8), "wall.png")
    none = run(str(tmp_path / "wall.png"), "--model", url, "--detector", "mtcnn")
    assert isinstance(none.exception, OccframeError)
    assert "finds no face" in str(none.exception)


def test_a_gallery_of_another_model_is_refused(tmp_path: Path) -> None:
    model = load_model(made(tmp_path / "model"), BUILD, purpose="explain")
    schema = GallerySchema(dim=16, dtype="float32", model_fingerprint="0" * 64, image_spec=model.image_spec)
    with GalleryWriter(str(tmp_path / "gallery"), schema) as writer:
        writer.write(["a"], ["a"], np.eye(1, 16, dtype=np.float32))
    from occframe.gallery import Gallery

    with pytest.raises(OccframeError, match="was embedded by another model"):
        nearest(Gallery.open(str(tmp_path / "gallery")), model, np.zeros(16, np.float32), 1)


@pytest.mark.parametrize(
    "options",
    [{"patterns": "regression"}, {"patterns": "none"}, {"mask_on": "embedding"}, {"mask_shape": "2d", "open_bias": 2}],
)
def test_every_variant_explains(tmp_path: Path, options: dict[str, Any]) -> None:
    url = made(tmp_path / "model", **options)
    told = explain_face(load_model(url, BUILD, purpose="explain"), face())
    assert (told.heat is None) == ("mask_on" in options)
    assert (told.probability is None) == ("patterns" in options)
    if told.heat is not None:
        assert told.heat.shape == (4, 3)
    assert run(stored(tmp_path, face()), "--model", url).exit_code == 0


def test_what_cannot_be_explained_says_why(tmp_path: Path) -> None:
    block = BackboneBlock.model_validate(TRUNK, context={"registry": BUILD.registry})
    save_model(str(tmp_path / "plain"), BUILD.build(block), block)
    with pytest.raises(OccframeError, match="mobilefacenet` does not say what it masks"):
        explain_face(load_model(str(tmp_path / "plain"), BUILD, purpose="explain"), face())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    done = run(str(tmp_path / "broken.jpg"), "--model", made(tmp_path / "model"))
    assert isinstance(done.exception, OccframeError)
    assert "broken.jpg" in str(done.exception)
