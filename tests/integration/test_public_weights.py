"""The public MobileFaceNets on real faces: a slip in layers, names, channel order or normalisation fails here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError
from occframe.models import LoadedModel, embed_images, load_model
from occframe.plugins import PluginRegistry
from occframe.steps.pretrained import PretrainedConfig, PretrainedStep
from occframe.weights import load_weights
from tests.fakes import FakeStepContext

pytestmark = pytest.mark.shared

REGISTRY = PluginRegistry.discover()
FILES = {"foamliu": "mobilefacenet_ms1m_128d.safetensors", "xiaoccer": "mobilefacenet_casia_128d.safetensors"}


@pytest.fixture(params=list(FILES))
def model(request, shared, tmp_path) -> LoadedModel:
    options = {
        "backbone": {"use": "mobilefacenet", "preset": request.param},
        "weights": str(shared / "weights" / FILES[request.param]),
    }
    context = FakeStepContext(tmp_path, options, PretrainedConfig, registry=REGISTRY)
    PretrainedStep().run(context)
    return load_model(str(tmp_path), BuildContext(REGISTRY))


@cache
def read(shared: Path, name: str, rows: int) -> tuple[list[str], Tensor]:
    """The first row group's first faces: identities and images [N, 3, 112, 112] uint8 RGB."""
    table = pq.ParquetFile(shared / "data" / name).read_row_group(0, columns=["identity", "image"]).slice(0, rows)
    decode = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) for data in table["image"].to_pylist()]
    return [str(item) for item in table["identity"].to_pylist()], torch.from_numpy(np.stack(decode)).permute(0, 3, 1, 2)


def fit(images: Tensor, model: LoadedModel) -> Tensor:
    """The 112 x 96 template is the 112 x 112 one without eight columns on either side."""
    margin = (112 - model.image_spec.width) // 2
    return images[..., margin : 112 - margin]


def pattern(height: int, width: int) -> Tensor:
    y, x, colour = torch.arange(height)[:, None], torch.arange(width)[None], torch.arange(3)[:, None, None]
    return ((2 * y + 3 * (colour + 1) * x) % 256).to(torch.uint8)[None]


# First figures of the normalised embedding of ``pattern``, from the original implementations' layers written out with
# torch.nn.functional over the files' own parameter names, and their authors' normalisation.
EXPECTED = {
    (112, 112): [0.0231337, -0.1522347, -0.0159067, -0.0661890, 0.0894252, 0.0994527],
    (112, 96): [-0.0049708, -0.0252286, -0.1243740, -0.0097444, 0.0575766, 0.0372405],
}


def test_embeddings_are_those_of_the_original_implementation(model):
    size = model.image_spec.height, model.image_spec.width
    embedding = embed_images(model, pattern(*size), precision="fp32")[0, :6]
    torch.testing.assert_close(embedding, torch.tensor(EXPECTED[size]), rtol=0, atol=2e-5)


def test_channel_order_matters(model, shared):
    _, images = read(shared, "celeba112_colour.parquet", 16)
    right = embed_images(model, fit(images, model))
    bgr = replace(model, image_spec=replace(model.image_spec, colour="BGR"))
    assert (right * embed_images(bgr, fit(images, model))).sum(1).mean() < 0.99


def test_genuine_and_impostor_pairs_part(model, shared):
    """60 of each; measured on all of LFW's 6,000: 98.65 % (MS1M) and 97.83 % (CASIA)."""
    identities, images = read(shared, "lfw112_gray.parquet", 1024)
    rows = {name: [row for row, other in enumerate(identities) if other == name][:2] for name in identities}
    first, second = zip(*[pair for pair in rows.values() if len(pair) == 2][:60], strict=True)
    one = embed_images(model, fit(images[list(first)], model))
    other = embed_images(model, fit(images[list(second)], model))
    genuine, impostor = (one * other).sum(1), (one * other.roll(1, 0)).sum(1)
    assert (genuine > 0.3).sum() >= 56
    assert (impostor < 0.3).sum() >= 56
    assert genuine.mean() - impostor.mean() > 0.5


def test_the_wrong_preset_is_refused_with_the_right_one(shared):
    block = BackboneBlock.model_validate({"use": "mobilefacenet"}, context={"registry": REGISTRY})
    network = BuildContext(REGISTRY).build(block)
    with pytest.raises(
        OccframeError, match=r"33 missing: stem.act.weight.*7 unknown to it: fc.conv.bias, stem_pointwise.norm.bias"
    ) as error:
        load_weights(network, str(shared / "weights" / FILES["foamliu"]))
    assert "{use: mobilefacenet, preset: foamliu, input_size: [112, 112], embedding_dim: 128}" in error.value.remedy
    with pytest.raises(OccframeError, match=r"pool.conv.weight \[512, 1, 7, 6\] instead of \[512, 1, 7, 7\]") as error:
        load_weights(network, str(shared / "weights" / FILES["xiaoccer"]))
    assert "input_size: [112, 96]" in error.value.remedy


def test_a_registry_name_loads_what_the_cache_holds(shared, tmp_path, monkeypatch):
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / FILES["foamliu"]).symlink_to(shared / "weights" / FILES["foamliu"])
    monkeypatch.setenv("OCCFRAME_CACHE", str(tmp_path / "cache"))
    options = {
        "backbone": {"use": "mobilefacenet", "preset": "foamliu"},
        "weights": "registry:mobilefacenet_ms1m_128d",
    }
    context = FakeStepContext(tmp_path / "model", options, PretrainedConfig, registry=REGISTRY)
    outcome = PretrainedStep().run(context)
    assert outcome.outputs[""]["extra"] == {"weights": "registry:mobilefacenet_ms1m_128d"}
    assert context.notes == [
        "weights mobilefacenet_ms1m_128d, licence: Apache-2.0; "
        "the training data, MS-Celeb-1M, was for research only and has been withdrawn by its publisher"
    ]
