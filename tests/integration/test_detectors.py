"""Detectors on real faces, and what they say where their weights are not what they should be."""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe.types import Detector
from occframe_aligners.configs import MTCNNConfig, YuNetConfig
from tests.faces import celeba_faces, mean_error, orl_face, photograph

CONTEXT = BuildContext(PluginRegistry())


def make_yunet(weights: object, **options: object) -> Detector:
    from occframe_aligners.yunet import YuNetDetector

    return YuNetDetector(YuNetConfig(weights=str(weights), **options), CONTEXT)


def make_mtcnn(**options: object) -> Detector:
    from occframe_aligners.mtcnn import MTCNNDetector

    return MTCNNDetector(MTCNNConfig(**options), CONTEXT)


@pytest.fixture(scope="module")
def mtcnn() -> Detector:
    try:
        importlib.metadata.distribution("mtcnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra `detect` is not installed: pip install 'occframe[detect]'")
    return make_mtcnn()


@pytest.fixture(scope="module")
def yunet(shared: Path) -> Detector:
    return make_yunet(shared / "weights" / "face_detection_yunet_2026may.onnx")


@pytest.fixture(params=["mtcnn", pytest.param("yunet", marks=pytest.mark.shared)])
def detector(request: pytest.FixtureRequest) -> Detector:
    return request.getfixturevalue(request.param)


def in_grey(face: np.ndarray, top: int = 70, left: int = 110) -> np.ndarray:
    picture = np.full((260, 330, 3), 128, np.uint8)
    picture[top : top + face.shape[0], left : left + face.shape[1]] = face
    return picture


def test_landmarks_come_in_the_order_of_the_picture(detector: Detector) -> None:
    for person in range(1, 21):
        found = detector.detect(in_grey(orl_face(person, 1)))
        assert found, f"person {person} was not found"
        left_eye, right_eye, nose, left_mouth, right_mouth = found[0].landmarks
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        x, y, width, height = found[0].box
        assert x < left_eye[0] < x + width
        assert y < nose[1] < y + height
        assert found[0].landmarks.dtype == np.float32


def test_the_best_of_several_faces_comes_first(detector: Detector) -> None:
    picture = np.full((300, 700, 3), 128, np.uint8)
    for number, person in enumerate((2, 3, 7)):
        picture[90:202, 60 + 220 * number : 152 + 220 * number] = orl_face(person, 1)
    scores = [face.score for face in detector.detect(picture)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_nothing_in_pictures_without_a_face(detector: Detector) -> None:
    assert detector.detect(np.full((300, 400, 3), 90, np.uint8)) == []
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    assert detector.detect(np.broadcast_to(ramp[None, :, None], (300, 400, 3)).copy()) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (3, 7), (31, 33)])
def test_a_tiny_picture_is_no_accident(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 90, np.uint8)) == []


def test_threads_do_not_disturb_each_other(detector: Detector) -> None:
    """Pictures of many sizes, since YuNet is told the size before each."""
    pictures = [in_grey(orl_face(person, 2))[:, : 300 + person] for person in range(1, 17)]
    alone = [detector.detect(picture)[0].landmarks for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = [faces[0].landmarks for faces in pool.map(detector.detect, pictures)]
    np.testing.assert_array_equal(alone, together)


@pytest.mark.shared
@pytest.mark.parametrize(("degrees", "worst"), [(0.0, 0.11), (20.0, 0.12)])
def test_faces_in_photographs(detector: Detector, shared: Path, degrees: float, worst: float) -> None:
    """Against landmarks that came with the faces. Measured: 0.09; 0.17 for YuNet turned, without its second look."""
    errors = []
    for number, (face, landmarks) in enumerate(celeba_faces(shared, 60)):
        picture, truth = photograph(face, landmarks, height=320, width=420, scale=1.2, degrees=degrees, seed=number)
        found = detector.detect(picture)
        errors += [mean_error(found[0].landmarks, truth)] if found else []
    assert len(errors) >= 58
    assert np.mean(errors) < worst


@pytest.mark.shared
def test_a_big_photograph_is_searched_small_and_answered_in_its_own_pixels(detector: Detector, shared: Path) -> None:
    errors = []
    for number, (face, landmarks) in enumerate(celeba_faces(shared, 6)):
        picture, truth = photograph(face, landmarks, height=2000, width=2600, scale=9.0, degrees=5, seed=number)
        errors += [mean_error(detector.detect(picture)[0].landmarks, truth)]
    assert np.mean(errors) < 0.13


@pytest.mark.shared
def test_yunet_is_given_blue_first(yunet: Detector, shared: Path) -> None:
    """It was trained on BGR: on pictures with red and blue swapped it must be less sure."""
    right, swapped = [], []
    for face, _ in celeba_faces(shared, 60):
        right += [yunet.detect(face)[0].score]
        found = yunet.detect(np.ascontiguousarray(face[:, :, ::-1]))
        swapped += [found[0].score if found else 0.0]
    assert np.mean(right) > np.mean(swapped)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_yunet_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(OccframeError, match=r"yunet` cannot read its weights .*none\.onnx: No such file") as caught:
        make_yunet(tmp_path / "none.onnx")
    assert "detector `mtcnn`" in str(caught.value.remedy)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"], ids=["empty", "pointer"])
def test_yunet_with_a_file_that_is_no_network(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(content)
    with pytest.raises(OccframeError, match=r"weights\.onnx is not a YuNet detector: "):
        make_yunet(path)


def test_mtcnn_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(OccframeError, match=r"`mtcnn`: its weights are not installed") as caught:
        make_mtcnn()
    assert "occframe[detect]" in str(caught.value.remedy)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_mtcnn_never_unpickles_a_file_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, touched = tmp_path / "pnet.lz4", tmp_path / "touched"
    weights.write_bytes(pickle.dumps(Bomb(touched)))
    fake = SimpleNamespace(locate_file=lambda path: weights)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: fake)
    with pytest.raises(OccframeError, match=r"pnet\.lz4 is not the file of mtcnn 1\.0\.0"):
        make_mtcnn()
    assert not touched.exists()
    pickle.loads(weights.read_bytes())  # the bomb does work
    assert touched.exists()


def test_the_networks_have_the_published_number_of_parameters(mtcnn: Detector) -> None:
    from occframe_aligners.mtcnn_networks import SHA256, load_networks

    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in load_networks()]
    assert counts == [6632, 100178, 389040]
    root = importlib.metadata.distribution("mtcnn")
    for name, digest in SHA256.items():
        file = Path(str(root.locate_file(f"mtcnn/assets/weights/{name}.lz4")))
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
