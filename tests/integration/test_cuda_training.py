"""Training on a CUDA device: the loader that feeds it, the steps, what comes out. All of it needs a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from occframe.component import BackboneBlock, OcclusionBlock
from occframe.data import FaceLoader
from occframe.data.transfer import pinned
from occframe.errors import Interrupted, OccframeError
from occframe.models import embed_images, load_model, save_model
from occframe.standalone import parse_block, standalone_context
from occframe.step import StepOutcome
from occframe.steps.train import TrainConfig, TrainStep
from occframe.types import FaceBatch
from occframe_datasets.synthetic import SyntheticFaces
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import TinyFaces, tiny_registry

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

OPTIONS = {
    "data": "faces",
    "backbone": {"use": "tiny", "dropout": 0.1},
    "losses": ["softmax"],
    "optimiser": {"name": "sgd", "lr": 0.02},
    "epochs": 10,
    "batch_size": 8,
    "log_every": 3,
    "threads": 2,
}


@pytest.fixture(autouse=True)
def _same_convolutions_each_time(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def train(url: Path, *, device: str = "cuda", stop: Any = lambda: False, **options: Any) -> StepOutcome:
    made = FakeStepContext(
        url,
        OPTIONS | options,
        TrainConfig,
        name="recogniser",
        datasets={"faces": TinyFaces(landmarks=True)},
        registry=tiny_registry(),
        seed=3,
        device=device,
        stop=stop,
    )
    return TrainStep().run(made)


def losses(url: Path) -> list[float]:
    records = [json.loads(line) for line in (url / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if record["kind"] == "steps"]


# --- the loader -------------------------------------------------------------------------------------------------------


def test_a_pinned_batch_keeps_values_layout_and_identity() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 6), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    mask = torch.ones(4, 1, 8, 1).expand(-1, -1, -1, 6)
    made = pinned(FaceBatch(images, torch.arange(4), mask=mask, clean=images))
    assert made.clean is made.images
    assert made.images.is_contiguous(memory_format=torch.channels_last)
    for before, after in ((images, made.images), (mask, made.mask)):
        assert after.is_pinned()
        assert torch.equal(before, after)


@pytest.mark.parametrize("name", ["rectangles", "glasses", "medical-mask", "scarf"])
@pytest.mark.parametrize("probability", [0.6, 1.0])
def test_pictures_are_the_same_wherever_they_are_augmented(name, probability) -> None:
    faces = SyntheticFaces(identities=10, images=5, size=48, seed=0)
    context = standalone_context()

    def batches(device: str, augment_on: Any) -> Any:
        return FaceLoader(
            faces,
            height=48,
            width=48,
            batch_size=8,
            threads=3,
            seed=5,
            shuffle=True,
            flip=True,
            grey=0.3,
            occlusion=context.build(parse_block(OcclusionBlock, {"use": name}, context)),
            occlusion_probability=probability,
            keep_clean=True,
            classes=sorted(set(faces.subjects)),
            device=device,
            augment_on=augment_on,
        ).epoch(1)

    host = list(batches("cpu", "workers"))
    for augment_on in ("workers", "device"):
        for _ in range(3):  # memory that is given back too early would show in the later rounds
            for here, there in zip(host, batches("cuda", augment_on), strict=True):
                assert there.images.is_cuda
                assert there.images.is_contiguous(memory_format=torch.channels_last)
                assert torch.equal(here.index, there.index.cpu())
                assert torch.equal(here.identities, there.identities.cpu())
                assert (here.landmarks is None) == (there.landmarks is None)
                assert here.landmarks is None or torch.equal(here.landmarks, there.landmarks.cpu())
                assert torch.equal(here.clean, there.clean.cpu())
                assert (here.images.int() - there.images.cpu().int()).abs().max() <= 1
                assert (here.mask - there.mask.cpu()).abs().max() <= 1 / 255


def test_a_busy_consumer_sees_whole_batches() -> None:
    """Transfers run on, in a stream of their own, while the device computes."""
    faces = SyntheticFaces(identities=40, images=10, size=112, seed=0)
    loader = FaceLoader(faces, height=112, width=112, batch_size=32, threads=4, seed=0, shuffle=True, device="cuda")
    expected = {int(row): np.asarray(faces.read([int(row)])[0]) for row in range(0, len(faces.ids), 7)}
    weight = torch.randn(4096, 4096, device="cuda")
    for batch in loader.epoch(0):
        for _ in range(5):
            weight = torch.nn.functional.normalize(weight @ weight)
        kept = batch.images.clone()
        for at, row in enumerate(batch.index.tolist()):
            if row in expected:
                assert np.array_equal(kept[at].permute(1, 2, 0).cpu().numpy(), expected[row])


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment_on", ["workers", "device"])
@pytest.mark.parametrize("optimiser", [OPTIONS["optimiser"], {"name": "adamw", "lr": 0.02}])
def test_a_gpu_learns_in_its_own_precision(tmp_path, augment_on, optimiser) -> None:
    outcome = train(tmp_path, occlusion="blot", augment_on=augment_on, optimiser=optimiser, precision="auto")
    assert outcome.metrics["steps"] == 40
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]


def test_float16_with_its_scaler_learns_too(tmp_path) -> None:
    train(tmp_path, precision="fp16")
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]


def test_a_gpu_computes_what_a_cpu_computes(tmp_path) -> None:
    options = {"precision": "fp32", "backbone": {"use": "tiny", "dropout": 0.0}, "occlusion": "rectangles", "epochs": 5}
    train(tmp_path / "cpu", device="cpu", **options)
    train(tmp_path / "cuda", augment_on="device", **options)
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), abs=5e-2)
    assert losses(tmp_path / "cuda")[0] == pytest.approx(losses(tmp_path / "cpu")[0], abs=5e-3)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_stopped_training_goes_on_exactly(tmp_path, precision) -> None:
    options = {"occlusion": "rectangles", "augment_on": "device", "precision": precision, "epochs": 4}
    train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "halves", stop=stop_after(7), **options)
    train(tmp_path / "halves", **options)
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    whole, halves = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(value, halves[name]) for name, value in whole.items())


def test_a_compiled_network_learns_the_same(tmp_path) -> None:
    options = {"precision": "fp32", "backbone": {"use": "tiny", "dropout": 0.0}, "epochs": 2}
    train(tmp_path / "eager", **options)
    try:
        train(tmp_path / "compiled", compile=True, **options)
    except OccframeError as error:
        if "torch.compile does not work here" not in error.message:
            raise
        pytest.skip(error.message)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), abs=1e-2)
    eager, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_a_model_on_the_gpu_is_exported(tmp_path) -> None:
    pytest.importorskip("onnx", reason="needs the extra `onnx`")
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    from occframe.exporting import TOLERANCE, export_onnx

    context = standalone_context(device="cuda")
    block = parse_block(BackboneBlock, {"use": "mobilefacenet", "input_size": [32, 32]}, context)
    save_model(str(tmp_path / "model"), context.build(block).cuda(), block)
    exported = export_onnx(str(tmp_path / "model"), str(tmp_path / "model.onnx"), context)
    assert exported.difference <= TOLERANCE
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    again = parse_block(BackboneBlock, {"use": "onnx", "path": exported.url}, standalone_context())
    backbone = standalone_context().build(again)
    onnx = torch.nn.functional.normalize(backbone(images.float() / 127.5 - 1).embedding)
    here = embed_images(load_model(str(tmp_path / "model"), context), images, precision="fp32").cpu()
    torch.testing.assert_close(onnx, here, atol=1e-2, rtol=0)  # convolutions in TF32
