"""The step that teaches who wears glasses, on drawn faces and a network of four channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occframe.component import BackboneBlock, BuildContext, DatasetBlock
from occframe.data import FaceLoader
from occframe.errors import Interrupted, OccframeError
from occframe.model_files import read_state
from occframe.models import load_model, save_model
from occframe.plugins import PluginRegistry
from occframe.removal import tell_glasses
from occframe.standalone import parse_block
from occframe.step import Artefact
from occframe_deglass.recogniser_configs import TrainGlassesRecogniserConfig
from occframe_deglass.train_recogniser import TrainGlassesRecogniserStep
from tests.fakes import FakeStepContext, stop_after

BUILD = BuildContext(PluginRegistry.discover())


class Drawn:
    """Ten drawn people, four pictures each; the first picture of each wears drawn sunglasses."""

    def __init__(self) -> None:
        block = parse_block(DatasetBlock, {"use": "synthetic", "identities": 10, "images": 4}, BUILD)
        faces = BUILD.build(block)
        self.ids, self.subjects, self.landmarks = faces.ids, faces.subjects, faces.landmarks
        self.blocks, self.aligned = faces.blocks, True
        self.attributes = {"eyeglasses": np.arange(40) % 4 == 0}
        self.pictures = [picture.copy() for picture in faces.read(range(40))]
        for row in range(0, 40, 4):
            for x, y in self.landmarks[row][:2].round().astype(int):
                self.pictures[row][y - 9 : y + 10, x - 12 : x + 13] = 12

    def read(self, rows: Any) -> list[np.ndarray]:
        return [self.pictures[row] for row in rows]

    def fingerprint(self) -> str:
        return "drawn"


def training(url: Path, stop: Any = lambda: False, artefacts: Any = None, **options: Any) -> FakeStepContext:
    return FakeStepContext(
        url,
        {
            "data": "faces", "backbone": {"use": "glasses-recogniser", "width": 4, "dropout": 0}, "epochs": 2,
            "batch_size": 8, "test": 0.3, "calibrate": 0.2, "precision": "fp32", "threads": 1, "lr": 0.01,
        } | options,
        TrainGlassesRecogniserConfig,
        name="glasses",
        datasets={"faces": Drawn()},
        artefacts=artefacts,
        stop=stop,
    )  # fmt: skip


def test_a_recogniser_is_trained_measured_and_ready_for_use(tmp_path: Path) -> None:
    # So few faces teach what the drawn rectangles look like, not what all synthetic glasses do.
    context = training(tmp_path, synthetic=0.0, grey=0.0, batch_size=16, lr=0.003, epochs=40)
    outcome = TrainGlassesRecogniserStep().run(context)
    card = outcome.outputs[""]
    assert set(card["extra"]["measured"]) == {"real", "grey", "synthetic"}
    assert outcome.metrics["real.f1"] > 0.6
    assert outcome.metrics["real.accuracy"] > 0.85
    assert outcome.metrics["real.faces"] == 12
    assert "calibration error" in outcome.headlines[0]
    parts = json.loads((tmp_path / "parts.json").read_text())
    people = {part: {name.split("/")[0] for name in ids} for part, ids in parts.items()}
    assert not people["train"] & people["test"]
    assert not people["calibrate"] & (people["train"] | people["test"])
    model = load_model(str(tmp_path), BUILD, purpose="explain")
    assert float(model.backbone.temperature) == pytest.approx(card["extra"]["temperature"])
    batch = next(iter(FaceLoader(Drawn(), height=112, width=112, batch_size=8, threads=1, seed=0).epoch(0)))
    seen = tell_glasses(model, batch.images, precision="fp32")
    wears = torch.tensor([True, False, False, False] * 2)
    assert seen["glasses"][wears].mean() > seen["glasses"][~wears].mean() + 0.3


def test_a_stopped_training_goes_on_bit_by_bit(tmp_path: Path) -> None:
    options: Any = {"epochs": 2, "test": 0.0}
    with pytest.raises(Interrupted):
        TrainGlassesRecogniserStep().run(training(tmp_path / "stopped", stop_after(3), **options))
    again = training(tmp_path / "stopped", **options)
    TrainGlassesRecogniserStep().run(again)
    assert any("went on from the checkpoint of step 3" in note for note in again.notes)
    TrainGlassesRecogniserStep().run(training(tmp_path / "whole", **options))
    stopped, whole = (load_model(str(tmp_path / name), BUILD).backbone.state_dict() for name in ("stopped", "whole"))
    assert all(torch.equal(value, whole[name]) for name, value in stopped.items())


SMALL = {"use": "mobilefacenet", "input_size": [32, 32], "embedding_dim": 16}


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    block = parse_block(BackboneBlock, SMALL, BUILD)
    network = BUILD.build(block)
    url = str(tmp_path_factory.mktemp("recogniser"))
    return Artefact("recogniser", "model", url, save_model(url, network, block))


@pytest.mark.parametrize(("rate", "learns"), [(0.0, False), (0.5, True)])
def test_a_recogniser_s_trunk_stands_still_or_follows(
    tmp_path: Path, recogniser: Artefact, rate: float, learns: bool
) -> None:
    context = training(
        tmp_path,
        backbone={"use": "glasses-recogniser", "trunk": SMALL, "dropout": 0.1},
        start="recogniser",
        parts={"trunk": {"rate": rate, "statistics": "keep"}, "trunk.stem": {"rate": 0}},
        test=0.0,
        artefacts={"recogniser": recogniser},
    )
    TrainGlassesRecogniserStep().run(context)
    assert not context.notes
    after, before = read_state(str(tmp_path)), read_state(recogniser.url)
    for key, value in before.items():
        read = key.startswith(("stem_depthwise", "stage1", "stage2"))
        weight = "running" not in key and "num_batches" not in key
        assert torch.equal(after[f"trunk.{key}"], value) == (not (learns and read and weight)), key
    assert after["head.2.weight"].any()
    assert after["head.0.running_var"].ne(1).all()


def test_a_trunk_without_weights_is_told(tmp_path: Path) -> None:
    context = training(tmp_path, backbone={"use": "glasses-recogniser", "trunk": SMALL}, epochs=1, test=0.0)
    TrainGlassesRecogniserStep().run(context)
    assert any("the trunk begins at random" in note for note in context.notes)


def test_without_an_attribute_synthetic_glasses_teach(tmp_path: Path) -> None:
    context = training(tmp_path, attribute=None, epochs=1)
    outcome = TrainGlassesRecogniserStep().run(context)
    assert any("nobody in the training faces wears real glasses" in note for note in context.notes)
    assert set(outcome.outputs[""]["extra"]["measured"]) == {"synthetic"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attribute": "glasses"}, "no column `glasses`"),
        ({"backbone": "mobilefacenet"}, "`mobilefacenet` is no glasses recogniser"),
    ],
)
def test_what_cannot_teach_is_refused_at_once(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OccframeError, match=said):
        TrainGlassesRecogniserStep().run(training(tmp_path, **options))


def test_bounds_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="low <= high expected"):
        training(tmp_path, darkness=[0.6, 0.2])
