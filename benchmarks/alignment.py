"""How well the detectors find faces and landmarks, and what their landmarks are worth to a recogniser.

    python -m benchmarks.alignment [--faces 300] [--folds 2]

Faces of ../shared are pasted into larger pictures, turned and scaled. The first table compares landmarks with those
that came with CelebA's faces; the second verifies LFW pairs after each way of aligning them, with a public recogniser.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch

from occframe import OccframeError
from occframe.component import BuildContext
from occframe.evaluation.pairs import parse_pairs
from occframe.evaluation.verification import fold_accuracy
from occframe.images import to_model_input
from occframe.plugins import PluginRegistry
from occframe.types import Detector
from occframe.weights import load_weights
from occframe_aligners.arcface import TEMPLATE, ArcFaceAligner
from occframe_aligners.configs import ArcFaceConfig, MTCNNConfig, YuNetConfig
from occframe_aligners.mtcnn import MTCNNDetector
from occframe_aligners.yunet import YuNetDetector
from tests.faces import celeba_faces, mean_error, photograph

SHARED = Path(__file__).resolve().parents[2] / "shared"
CONTEXT = BuildContext(PluginRegistry.discover())
# Further away than half the distance between the eyes is somebody else's face, or none.
HIT = 0.5


def detectors() -> dict[str, Detector]:
    weights = str(SHARED / "weights" / "face_detection_yunet_2026may.onnx")
    return {
        "mtcnn": MTCNNDetector(MTCNNConfig(), CONTEXT),
        "yunet": YuNetDetector(YuNetConfig(weights=weights), CONTEXT),
        "yunet, refine: false": YuNetDetector(YuNetConfig(weights=weights, refine=False), CONTEXT),
    }


def mask(face: np.ndarray) -> np.ndarray:
    covered = face.copy()
    covered[66:, 20:92] = (150, 180, 200)
    return covered


def sunglasses(face: np.ndarray) -> np.ndarray:
    covered = face.copy()
    covered[40:62, 18:94] = 20
    return covered


def landmark_table(count: int) -> None:
    conditions: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, float]]] = {
        "upright": (np.copy, {"height": 360, "width": 480, "scale": 1.2, "degrees": 0}),
        "turned 20°": (np.copy, {"height": 360, "width": 480, "scale": 1.2, "degrees": 20}),
        "1/13 of a big picture": (np.copy, {"height": 1500, "width": 2000, "scale": 1.5, "degrees": 10}),
        "masked": (mask, {"height": 360, "width": 480, "scale": 1.2, "degrees": 10}),
        "eyes covered": (sunglasses, {"height": 360, "width": 480, "scale": 1.2, "degrees": 10}),
    }
    faces = celeba_faces(SHARED, count)
    print(f"{'':24}{'':24}{'found':>8}{'error':>8}{'ms':>8}")
    for condition, (cover, where) in conditions.items():
        for name, detector in detectors().items():
            errors, seconds = [], []
            for number, (face, landmarks) in enumerate(faces):
                picture, truth = photograph(cover(face), landmarks, seed=number, **where)  # type: ignore[arg-type]
                began = time.perf_counter()
                found = detector.detect(picture)
                seconds.append(time.perf_counter() - began)
                error = mean_error(found[0].landmarks, truth) if found else np.inf
                errors += [error] if error < HIT else []
            share, error = len(errors) / count, np.mean(errors)
            print(f"{condition:24}{name:24}{share:8.1%}{error:8.3f}{np.median(seconds) * 1e3:8.1f}")


def verification_table(folds: int) -> None:
    pairs = [pair for pair in parse_pairs(str(SHARED / "data" / "lfw_pairs.txt")) if (pair.fold or 0) < folds]
    names = sorted({f"{image[0]}_{int(image[1]):04}.jpg" for pair in pairs for image in (pair.first, pair.second)})
    table = pq.read_table(SHARED / "data" / "lfw112_gray.parquet", columns=["file", "image"])
    encoded = dict(zip(table["file"].to_pylist(), table["image"].to_pylist(), strict=True))
    aligner = ArcFaceAligner(ArcFaceConfig(), CONTEXT)
    ways: dict[str, list[np.ndarray]] = {"as they were": [], "box resized, not aligned": []}
    lost = dict.fromkeys([*ways, *detectors()], 0)
    found_by = detectors()
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        face = cv2.imdecode(np.frombuffer(encoded[name], np.uint8), cv2.IMREAD_COLOR_RGB)
        scale, degrees = rng.uniform(0.8, 2.0), rng.uniform(-20, 20)
        picture, _ = photograph(face, TEMPLATE, height=360, width=480, scale=scale, degrees=degrees, seed=number)
        ways["as they were"].append(face)
        for way, detector in found_by.items():
            found = detector.detect(picture)
            try:
                aligned = aligner.align(picture, found[0].landmarks).image
            except (IndexError, OccframeError):
                aligned = np.zeros((112, 112, 3), np.uint8)
                lost[way] += 1
            ways.setdefault(way, []).append(aligned)
        if found:
            x, y, width, height = (round(side) for side in found[0].box)
            face = picture[max(y, 0) : y + height, max(x, 0) : x + width]
        ways["box resized, not aligned"].append(cv2.resize(face, (112, 112), interpolation=cv2.INTER_AREA))
    row_of = {name: row for row, name in enumerate(names)}
    rows = [[row_of[f"{image[0]}_{int(image[1]):04}.jpg"] for image in (pair.first, pair.second)] for pair in pairs]
    first, second = np.array(rows).T
    same, fold = np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs])
    print(f"\n{'':28}{'accuracy':>10}{'lost':>8}   of {len(names)} faces, {len(pairs)} pairs")
    for way, images in ways.items():
        vectors = embed(np.stack(images))
        accuracy = fold_accuracy((vectors[first] * vectors[second]).sum(1), same, fold)
        print(f"{way:28}{accuracy.mean:10.2%}{lost[way]:8}")


def embed(images: np.ndarray) -> np.ndarray:
    """[N, 112, 112, 3] uint8 RGB -> [N, 128] float32, normalised."""
    component = CONTEXT.registry.find("backbone", "mobilefacenet")
    network = component.load_factory()(component.load_config()(preset="foamliu"), CONTEXT).eval()
    load_weights(network, str(SHARED / "weights" / "mobilefacenet_ms1m_128d.safetensors"))
    with torch.inference_mode():
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(64)
        vectors = torch.cat([network(to_model_input(batch, network.image_spec)).embedding for batch in batches])
    return torch.nn.functional.normalize(vectors).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=300, help="CelebA faces a condition")
    parser.add_argument("--folds", type=int, default=2, help="of LFW's ten; each has 600 pairs")
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit(f"no faces at {SHARED}")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    landmark_table(arguments.faces)
    verification_table(arguments.folds)


if __name__ == "__main__":
    main()
