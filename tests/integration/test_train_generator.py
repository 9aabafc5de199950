"""Step ``train_generator`` through real loaders and checkpoints, with the smallest networks that can learn."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from occframe import Config, GeneratorOutput, ImageSpec, hookimpl
from occframe.component import BackboneBlock
from occframe.data import FaceLoader
from occframe.errors import Interrupted, OccframeError
from occframe.generators import generate_images, load_generator, save_generator
from occframe.models import load_model, save_model
from occframe.step import Artefact, StepOutcome
from occframe.steps.report import _loss_charts
from occframe.steps.train_generator import TrainGeneratorConfig, TrainGeneratorStep
from occframe.training.adversarial_batches import people_features
from occframe.training.frozen_features import FrozenFeatures
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import SIZE, TinyFaces, tiny_registry


class StubConfig(Config):
    poison: int = Field(0, ge=0, description="the update whose result is NaN; 0: none")
    grey: bool = Field(False, description="gives every face the same picture")


class Stub(nn.Module):
    """One convolution with batch norm and dropout, so that training draws random numbers."""

    image_spec = ImageSpec(SIZE, SIZE)

    def __init__(self, config: StubConfig, context: Any) -> None:
        super().__init__()
        torch.manual_seed(context.seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.1))
        self.last = nn.Conv2d(8, 3, 3, padding=1)
        self.config, self.seen = config, 0

    def forward(self, images: Tensor) -> GeneratorOutput:
        self.seen += self.training
        made = torch.tanh(images + self.last(self.layers(images)))
        made = made * float("nan") if self.training and self.seen == self.config.poison else made
        return GeneratorOutput(made * 0 + 0.1 if self.config.grey else made)

    def discriminator(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3, 1, 1))


@hookimpl
def occframe_register_generators(register) -> None:
    register("stub", Stub, config=StubConfig, summary="one convolution")


REGISTRY = tiny_registry()
assert REGISTRY.register(sys.modules[__name__], name="stub", distribution="occframe-stub").status == "loaded"
OPTIONS = {
    "data": "faces",
    "generator": "stub",
    "occlusion": "blot",
    "recogniser": "recogniser",
    "iterations": 22,
    "batch_size": 8,
    "optimiser": {"lr": 0.01},
    "precision": "fp32",
    "log_every": 3,
    "sample_every": 10,
    "threads": 2,
}
UNPAIRED = {"mode": "unpaired", "occlusion": None, "clean": "clean"}
WEARERS = {
    "wearers": {"data": "worn", "bare": "clean", "batch_size": 4},
    "camera_probability": 0.5,
    "feature": {"shake": 0.1},
}


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> Artefact:
    url = str(tmp_path_factory.mktemp("recogniser"))
    block = BackboneBlock.model_validate("tiny", context={"registry": REGISTRY})
    made = FakeStepContext(url, OPTIONS | {"recogniser": "x"}, TrainGeneratorConfig, registry=REGISTRY)
    return Artefact("recogniser", "model", url, save_model(url, made.build.build(block), block))


@pytest.fixture
def train(recogniser):
    def run(
        url: Path, *, stop: Any = lambda: False, device: str = "cpu", **options: Any
    ) -> tuple[FakeStepContext, StepOutcome]:
        made = FakeStepContext(
            url,
            OPTIONS | options,
            TrainGeneratorConfig,
            name="remover",
            datasets={"faces": TinyFaces(), "clean": TinyFaces(identities=3, each=7), "worn": TinyFaces(each=3)},
            artefacts={"recogniser": recogniser},
            registry=REGISTRY,
            seed=3,
            device=device,
            stop=stop,
        )
        return made, TrainGeneratorStep().run(made)

    return run


def lines(url: Path) -> list[dict[str, Any]]:
    timed = {"seconds", "images_per_s", "data_wait"}
    records = [json.loads(line) for line in (url / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in timed} for record in records]


def assert_same_training(left: Path, right: Path) -> None:
    assert lines(left) == lines(right)
    for name in ("model.safetensors", "samples/step-0000022.jpg", "training.html"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


def test_what_was_put_on_is_learnt_to_be_removed(train, tmp_path):
    made, outcome = train(tmp_path, iterations=120, identity={"weight": 0}, adversarial={"weight": 0.1})
    told = [line for line in lines(tmp_path) if line["kind"] == "steps"]
    assert told[-1]["loss.pixel"] < 0.8 * told[0]["loss.pixel"]
    assert told[-1]["lr"] < 0.05 * told[0]["lr"]
    assert outcome.metrics["steps"] == 120
    assert outcome.metrics["images"] == 960
    assert outcome.headlines[0].startswith("remover: 120 updates, paired, loss ")
    model = load_generator(str(tmp_path), made.build)
    assert model.card.extra["iterations"] == 120
    assert not any("discriminator" in name for name in model.network.state_dict())
    assert generate_images(model, torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)).images.shape == (2, 3, SIZE, SIZE)


@pytest.mark.parametrize("mode", [{}, UNPAIRED, WEARERS, UNPAIRED | WEARERS])
@pytest.mark.parametrize("stopped", [1, 11])
def test_ctrl_c_keeps_a_checkpoint_from_which_a_second_run_goes_on(train, tmp_path, mode, stopped):
    train(tmp_path / "whole", **mode)
    with pytest.raises(Interrupted, match=f"stopped after step {stopped} of 22; a checkpoint is kept"):
        train(tmp_path / "halves", stop=stop_after(stopped), **mode)
    assert not (tmp_path / "halves" / "model.json").exists()
    resumed, _ = train(tmp_path / "halves", **mode)
    assert f"went on from the checkpoint of step {stopped} of 22" in resumed.notes
    assert_same_training(tmp_path / "halves", tmp_path / "whole")


def test_wearers_are_the_people_of_whom_there_are_pictures_without(train, tmp_path):
    made, outcome = train(tmp_path, **WEARERS)
    assert made.notes == ["1 people of worn have no picture in clean and are left out"]
    told = [line for line in lines(tmp_path) if line["kind"] == "steps"]
    assert told[-1]["loss.wearers"] > 0
    assert outcome.metrics["loss.wearers"] == told[-1]["loss.wearers"]
    with pytest.raises(OccframeError, match=r"worn has 9 faces of people who are in clean too, fewer than .* 10"):
        train(tmp_path / "few", wearers=WEARERS["wearers"] | {"batch_size": 10})


def test_a_persons_features_are_the_mean_direction_of_its_pictures():
    faces = TinyFaces(identities=3, each=5)
    loader = FaceLoader(
        faces, height=SIZE, width=SIZE, batch_size=4, threads=1, seed=0, classes=sorted({*faces.subjects, "z"})
    )
    found = people_features(loader, lambda images: images.flatten(1) * 7, 4)
    flat = torch.from_numpy(faces.images).permute(0, 3, 1, 2).flatten(1).double()
    for person in range(3):
        own = nn.functional.normalize(flat[5 * person : 5 * person + 5], dim=1).mean(0)
        torch.testing.assert_close(found[person].double(), own / own.norm(), atol=1e-5, rtol=1e-4)
    assert (found[3] == 0).all()


def test_the_bundled_network_trains_and_resumes_exactly(train, tmp_path):
    options = {
        "generator": {"use": "cse", "size": 32, "width": 4, "blocks": 1, "blend": True, "discriminator": {"width": 4}},
        "iterations": 4,
        "precision": "bf16",
        "grey_probability": 0.3,
        "adversarial": {"loss": "bce"},
        "pixel": {"inside": 3},
        "clip_norm": 5,
    }
    train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "halves", stop=stop_after(2), **options)
    made, _ = train(tmp_path / "halves", **options)
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")
    assert (
        load_generator(f"{tmp_path}/halves", made.build).fingerprint
        == load_generator(f"{tmp_path}/whole", made.build).fingerprint
    )


def test_compiled_networks_are_kept_under_their_own_names(train, tmp_path):
    train(tmp_path / "eager", iterations=2)
    made, outcome = train(tmp_path / "compiled", iterations=2, compile=True, augment_on="device")
    eager, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()
    assert outcome.metrics["loss.pixel"] == pytest.approx(lines(tmp_path / "eager")[0]["loss.pixel"], rel=0.2)
    assert load_generator(str(tmp_path / "compiled"), made.build).card.extra["iterations"] == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_what_a_cpu_uses(train, tmp_path):
    cse = {"use": "cse", "size": 32, "width": 4, "blocks": 1, "blend": True, "discriminator": {"width": 4}}
    with pytest.raises(Interrupted):
        train(tmp_path, device="cuda", generator=cse, precision="auto", stop=stop_after(7))
    train(tmp_path, device="cuda", generator=cse, precision="auto")
    model = load_generator(
        str(tmp_path), FakeStepContext(tmp_path, OPTIONS, TrainGeneratorConfig, registry=REGISTRY).build
    )
    assert generate_images(model, torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).images.isfinite().all()


def test_training_goes_on_with_an_earlier_generator(train, tmp_path, recogniser):
    first, _ = train(tmp_path / "first")
    meta = json.loads((tmp_path / "first" / "model.json").read_text())
    made = FakeStepContext(
        tmp_path / "second",
        OPTIONS | {"start": "first", "iterations": 1, "ema": 0.9, "optimiser": {"lr": 1e-9}},
        TrainGeneratorConfig,
        datasets={"faces": TinyFaces()},
        artefacts={"recogniser": recogniser, "first": Artefact("first", "generator", str(tmp_path / "first"), meta)},
        registry=REGISTRY,
    )
    TrainGeneratorStep().run(made)
    faces = torch.from_numpy(TinyFaces().images).permute(0, 3, 1, 2)
    before, after = (
        generate_images(load_generator(str(tmp_path / name), first.build), faces).images for name in ("first", "second")
    )
    assert float((before - after).abs().mean()) < 0.02


def test_samples_and_curves_are_there_while_it_trains(train, tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, stop=stop_after(13))
    sheet = cv2.imread(str(tmp_path / "samples" / "step-0000011.jpg"))
    assert sheet.shape == (3 * SIZE, 8 * SIZE, 3)  # given, made, before
    assert abs(sheet[:SIZE, : SIZE // 2].astype(int)).mean() < 15  # the left half of a given face is black
    page = (tmp_path / "training.html").read_text()
    assert "Step 11 of 22" in page
    assert "loss.generative" in page
    assert 'http-equiv="refresh"' in page
    train(tmp_path, samples=8)
    assert 'http-equiv="refresh"' not in (tmp_path / "training.html").read_text()


def test_the_report_has_its_curves(train, tmp_path):
    train(tmp_path)
    (chart,) = _loss_charts([Artefact("remover", "generator", str(tmp_path), {})])
    assert chart.title == "Training loss, remover"
    assert {"loss", "generative", "discriminative", "feature", "pixel", "identity"} <= {
        name for name, _ in chart.legend
    }


def test_unpaired_samples_have_no_row_of_what_ought_to_be(train, tmp_path):
    train(tmp_path, **UNPAIRED)
    assert cv2.imread(str(tmp_path / "samples" / "step-0000022.jpg")).shape == (2 * SIZE, 8 * SIZE, 3)
    train(tmp_path / "without", samples=0)
    assert not (tmp_path / "without" / "samples").exists()


def test_a_loss_that_is_no_number_stops_the_training_by_name_and_step(train, tmp_path):
    with pytest.raises(
        OccframeError, match=r"training diverged: loss\.discriminative became nan at step 5 of 22"
    ) as error:
        train(tmp_path, generator={"use": "stub", "poison": 5})
    assert "optimiser.lr" in error.value.remedy
    assert not (tmp_path / "model.json").exists()


def test_a_collapsed_generator_stops_the_training(train, tmp_path):
    with pytest.raises(OccframeError, match=r"the generator collapsed: by step 3 its pictures vary 0\.000 times"):
        train(tmp_path, generator={"use": "stub", "grey": True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"occlusion": None}, "mode: paired needs an `occlusion`"),
        ({"clean": "clean"}, "mode: paired takes none"),
        ({"mode": "unpaired"}, "mode: unpaired takes none"),
        ({"mode": "unpaired", "occlusion": None}, "mode: unpaired needs `clean`"),
        ({"recogniser": None}, r"write feature: \(weight: 0\)|write feature: {weight: 0}"),
        (WEARERS | {"recogniser": None, "feature": {"weight": 0}}, "`wearers` need a `recogniser`"),
        ({"precision": "fp16"}, "'auto', 'fp32' or 'bf16'"),
    ],
)
def test_what_a_mode_needs_is_said_at_validation(options, message, tmp_path):
    with pytest.raises(ValidationError, match=message):
        FakeStepContext(tmp_path, OPTIONS | options, TrainGeneratorConfig, registry=REGISTRY)


def test_the_recogniser_sees_what_its_own_spec_says_and_gradients_come_back(recogniser):
    made = FakeStepContext(recogniser.url, OPTIONS, TrainGeneratorConfig, registry=REGISTRY)
    model = load_model(recogniser.url, made.build)
    features = FrozenFeatures(model, "fp32")
    faces = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(features(faces), model.backbone(faces * 2 - 1).embedding)
    large = torch.nn.functional.interpolate(faces, scale_factor=3, mode="nearest").requires_grad_()
    features(large).sum().backward()
    assert large.grad.shape == large.shape
    assert float(large.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in model.backbone.parameters())


def test_a_generator_that_cannot_be_read_is_named(tmp_path):
    made = FakeStepContext(tmp_path, OPTIONS, TrainGeneratorConfig, registry=REGISTRY)
    network = made.build.build(made.config.generator)
    save_generator(str(tmp_path), network, made.config.generator)
    card = json.loads((tmp_path / "model.json").read_text())
    card["generator"]["use"] = "lost"
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(OccframeError, match="is damaged"):
        load_generator(str(tmp_path), made.build)
    assert np.isfinite([value.double().sum() for value in network.state_dict().values()]).all()
