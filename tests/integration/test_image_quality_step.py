"""Restored pictures beside what they should be, from data sets to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occframe.component import BackboneBlock, BuildContext
from occframe.data import FaceParquetWriter, ParquetFaces
from occframe.errors import OccframeError
from occframe.evaluation.figures import is_share, lower_is_better, value_text
from occframe.evaluation.results import load_evaluation
from occframe.models import save_model
from occframe.standalone import parse_block
from occframe.step import Artefact
from occframe.steps.image_quality import ImageQualityConfig, ImageQualityStep
from occframe.steps.report import ReportConfig, ReportStep
from tests.fakes import FakeStepContext
from tests.tiny import tiny_registry

REGISTRY = tiny_registry()
BUILD = BuildContext(REGISTRY)
COUNT, SIZE = 12, 16


def written(folder: Path, images: np.ndarray, masks: np.ndarray | None = None, drop: int = 0) -> ParquetFaces:
    import cv2

    folder.mkdir(parents=True)
    with FaceParquetWriter(f"{folder}/faces.parquet", extra={} if masks is None else {"mask": bytes}) as writer:
        for row in range(drop, len(images)):
            extra = {} if masks is None else {"mask": bytes(cv2.imencode(".png", masks[row])[1])}
            writer.add(f"face {row}", f"person {row // 2}", images[row], **extra)
    return ParquetFaces(f"{folder}/faces.parquet")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Clean faces, the same with a grey block, and two restorations: one right, one wrong outside the block."""
    folder = tmp_path_factory.mktemp("faces")
    clean = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)
    masks = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    masks[:, 4:10, 3:12] = 255
    masks[:, 10:12, 3:12] = 60  # a shadow: neither inside nor outside
    worn, half = clean.copy(), clean.copy()
    worn[:, 4:10, 3:12] = 128
    half[:, 4:10, 3:12] = 128 // 2 + clean[:, 4:10, 3:12] // 2
    half[:, :3] = 255 - half[:, :3]
    return {
        "clean": written(folder / "clean", clean),
        "worn": written(folder / "worn", worn, masks),
        "perfect": written(folder / "perfect", clean[::-1][::-1], drop=2),
        "half": written(folder / "half", half),
        "folder": folder,
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name, use in {"tiny": {"use": "tiny"}, "sees": {"use": "glasses-recogniser", "width": 4}}.items():
        block = parse_block(BackboneBlock, use, BUILD)
        network = BUILD.build(block)
        if name == "sees":
            network.head[1].weight.data.zero_()
            network.head[1].bias.data = torch.tensor([0.0, 9.0, 0.0])
        made[name] = Artefact(name, "model", str(folder / name), save_model(str(folder / name), network, block))
    return made


def compared(url: Path, faces: dict[str, Any], models: Any, **options: Any) -> tuple[Any, FakeStepContext]:
    context = FakeStepContext(
        url,
        {
            "reference": "clean", "conditions": {"glasses": "worn", "perfect": "perfect", "half": "half"},
            "masks": "worn", "height": SIZE, "width": SIZE, "batch_size": 5, "precision": "fp32",
        } | options,
        ImageQualityConfig,
        name="quality",
        datasets={name: item for name, item in faces.items() if name != "folder"},
        artefacts=models | {"worn": Artefact("worn", "dataset", str(faces["folder"] / "worn"), {})},
        registry=REGISTRY,
    )  # fmt: skip
    ImageQualityStep().run(context)
    return load_evaluation(str(url)).results["image quality"], context


def test_figures_of_a_right_and_a_wrong_restoration(tmp_path: Path, faces: Any, models: Any) -> None:
    results, _ = compared(tmp_path / "quality", faces, models, model="tiny", recogniser="sees", far=0.05)
    worn, perfect, half = (results[name].metrics for name in ("glasses", "perfect", "half"))
    assert all(result.counts == {"faces": COUNT - 2} for result in results.values())
    assert perfect["psnr_db"] == perfect["psnr_db_inside"] == worn["psnr_db_outside"] == 100
    assert perfect["ssim"] == pytest.approx(1)
    assert worn["psnr_db_inside"] + 5 < half["psnr_db_inside"] < 20
    assert half["psnr_db_outside"] < 20
    assert perfect["cosine"] == pytest.approx(1, abs=1e-5)
    assert worn["cosine_lowest"] <= worn["cosine"] < 1
    assert worn["glasses_seen"] == 1
    assert perfect["harmed"] == 0
    assert 0 <= half["harmed"] <= 1
    assert "harmed" not in worn
    assert worn["false_accepts"] <= 0.05


def test_without_networks_and_masks_only_pixels_are_compared(tmp_path: Path, faces: Any, models: Any) -> None:
    results, _ = compared(tmp_path / "quality", faces, models, masks=None)
    assert set(results["half"].metrics) == {"psnr_db", "ssim"}


def test_the_report_shows_decibels_and_what_is_better(tmp_path: Path, faces: Any, models: Any) -> None:
    _, context = compared(tmp_path / "quality", faces, models, model="tiny", recogniser="sees", far=0.05)
    report = FakeStepContext(
        tmp_path / "report",
        {"evaluation": "quality"},
        ReportConfig,
        artefacts={"quality": Artefact("quality", "evaluation", context.url, {})},
        registry=REGISTRY,
    )
    ReportStep().run(report)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "PSNR under the mask" in page
    assert " dB" in page
    assert "Glasses still seen" in page


def test_how_such_figures_are_written() -> None:
    assert value_text({"psnr_db_inside": 31.234}, "psnr_db_inside") == "31.2 dB"
    assert value_text({"ssim": 0.9876}, "ssim") == "0.988"
    assert value_text({"cosine": -0.1}, "cosine") == "−0.100"
    assert value_text({"glasses_seen": 0.083}, "glasses_seen") == "8.30 %"
    assert lower_is_better("glasses_seen")
    assert not is_share("cosine_lowest")


def test_sets_without_a_common_face(tmp_path: Path, faces: Any, models: Any) -> None:
    strangers = faces | {"clean": written(tmp_path / "other", np.zeros((1, SIZE, SIZE, 3), np.uint8))}
    strangers["clean"].__dict__["ids"] = ["nobody"]
    with pytest.raises(OccframeError, match="no face is there in every data set"):
        compared(tmp_path / "quality", strangers, models)
