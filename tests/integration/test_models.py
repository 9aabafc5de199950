from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from occframe import hookimpl
from occframe.component import BackboneBlock, BuildContext, Config
from occframe.errors import OccframeError
from occframe.images import to_model_input
from occframe.models import embed_images, load_model, save_model
from occframe.plugins import PluginRegistry
from occframe.steps.pretrained import PretrainedConfig, PretrainedStep
from occframe.storage import read_json
from occframe.types import BackboneOutput, ImageSpec
from tests.fakes import FakeStepContext

REGISTRY = PluginRegistry.discover()
BUILD = BuildContext(REGISTRY)
SMALL = {"use": "mobilefacenet", "input_size": [32, 48], "embedding_dim": 8}


def block_of(registry: PluginRegistry = REGISTRY, **options) -> BackboneBlock:
    return BackboneBlock.model_validate(options, context={"registry": registry})


def save_one(url, *, seed: int = 0, **options) -> tuple[nn.Module, dict]:
    block = block_of(**(options or SMALL))
    network = BuildContext(REGISTRY, seed=seed).build(block).eval()
    return network, save_model(str(url), network, block, extra={"epochs": 3})


def faces(count: int = 4, height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


# --- the artefact -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["{tmp}/model", "memory://runs/model"])
def test_a_model_comes_back_as_it_was(tmp_path, url):
    url = url.format(tmp=tmp_path)
    network, card = save_one(url, use="mobilefacenet", preset="foamliu", input_size=[32, 32])
    model = load_model(url, BUILD)
    assert model.image_spec == network.image_spec
    assert model.embedding_dim == network.embedding_dim
    assert model.fingerprint == card["fingerprint"]
    assert model.card.extra == {"epochs": 3}
    assert not model.backbone.training
    x = to_model_input(faces(2, 32, 32), model.image_spec)
    torch.testing.assert_close(model.backbone(x).embedding, network(x).embedding)


def test_the_card_says_what_a_reader_needs(tmp_path):
    save_one(tmp_path)
    card = read_json(str(tmp_path / "model.json"))
    assert card["backbone"] == SMALL | {"preset": "paper"}
    assert card["owner"] == "occframe"
    assert (card["image_spec"]["height"], card["image_spec"]["width"]) == (32, 48)
    assert card["embedding_dim"] == 8


def test_the_fingerprint_follows_weights_and_input(tmp_path):
    _, one = save_one(tmp_path / "a")
    _, again = save_one(tmp_path / "b")
    _, other_weights = save_one(tmp_path / "c", seed=1)
    network = BUILD.build(block_of(**SMALL))
    network.image_spec = replace(network.image_spec, colour="BGR")
    other_input = save_model(str(tmp_path / "d"), network, block_of(**SMALL))
    assert one["fingerprint"] == again["fingerprint"]
    assert len({one["fingerprint"], other_weights["fingerprint"], other_input["fingerprint"]}) == 3


def test_a_model_may_be_replaced_in_place(tmp_path):
    save_one(tmp_path)
    _, card = save_one(tmp_path, seed=1)
    assert load_model(str(tmp_path), BUILD).fingerprint == card["fingerprint"]
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


def test_no_model_there(tmp_path):
    with pytest.raises(OccframeError, match=r"there is no model at .*: model\.json is missing"):
        load_model(str(tmp_path), BUILD)
    (tmp_path / "model.json").write_text('{"format": 2}')
    with pytest.raises(OccframeError, match=r"model\.json is no model description: format"):
        load_model(str(tmp_path), BUILD)


def test_files_that_do_not_belong_together(tmp_path):
    save_one(tmp_path / "a")
    save_one(tmp_path / "b", seed=1)
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(OccframeError, match=r"is damaged: model\.safetensors does not belong to its model\.json"):
        load_model(str(tmp_path / "a"), BUILD)


def test_a_missing_plugin_is_named(tmp_path):
    save_one(tmp_path)
    without = PluginRegistry.discover(disabled=["backbones"])
    with pytest.raises(
        OccframeError, match=r"no backbone is called `mobilefacenet` \(it was made by occframe \d"
    ) as error:
        load_model(str(tmp_path), BuildContext(without))
    assert "blocked plugins: backbones" in error.value.remedy


def test_options_that_the_installed_plugin_does_not_know(tmp_path):
    save_one(tmp_path)
    path = tmp_path / "model.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"backbone": SMALL | {"swish": True}}))
    with pytest.raises(OccframeError, match="is damaged"):
        load_model(str(tmp_path), BUILD)


# --- plugins that change under a model --------------------------------------------------------------------------------


class NoOptions(Config):
    pass


class OneLayer(nn.Module):
    embedding_dim = 4
    feature_info = ()

    def __init__(self, height: int) -> None:
        super().__init__()
        self.image_spec = ImageSpec(height=height, width=16)
        self.linear = nn.Linear(3, 4)

    def forward(self, images: torch.Tensor) -> BackboneOutput:
        return BackboneOutput(self.linear(images.mean(dim=(2, 3))))


def registry_with(distribution: str, *, name: str = "one-layer", height: int = 16) -> PluginRegistry:
    class Plugin:
        @hookimpl
        def occframe_register_backbones(self, register):
            register(name, lambda config, context: OneLayer(height), config=NoOptions, summary="for tests")

    registry = PluginRegistry.discover()
    assert registry.register(Plugin(), name="test", distribution=distribution).status == "loaded"
    return registry


def test_a_name_that_another_plugin_took_since_is_no_obstacle(tmp_path):
    save_one(tmp_path)
    assert load_model(str(tmp_path), BuildContext(registry_with("rival", name="mobilefacenet"))).embedding_dim == 8


def test_a_plugin_may_move_to_another_distribution_but_not_change_its_input(tmp_path):
    before = registry_with("acme")
    save_model(str(tmp_path), OneLayer(16), block_of(before, use="one-layer"))
    assert load_model(str(tmp_path), BuildContext(registry_with("acme-two"))).image_spec.height == 16
    with pytest.raises(OccframeError, match=r"builds `acme:one-layer` for .*height=32.* was made for .*height=16"):
        load_model(str(tmp_path), BuildContext(registry_with("acme", height=32)))


# --- embedding --------------------------------------------------------------------------------------------------------


def test_embeddings_are_normalised_and_do_not_depend_on_the_batch(tmp_path):
    save_one(tmp_path)
    model = load_model(str(tmp_path), BUILD)
    images = faces()
    together = embed_images(model, images, precision="fp32")
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    apart = torch.cat([embed_images(model, image[None], precision="fp32") for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    as_float = embed_images(model, images.float() / 255, precision="fp32")
    torch.testing.assert_close(together, as_float, rtol=1e-4, atol=1e-5)


def test_bf16_is_close_and_flip_sees_no_side(tmp_path):
    save_one(tmp_path)
    model = load_model(str(tmp_path), BUILD)
    images = faces()
    exact = embed_images(model, images, precision="fp32")
    assert (exact * embed_images(model, images, precision="bf16")).sum(1).min() > 0.99
    flipped = embed_images(model, images.flip(3), precision="fp32", flip=True)
    torch.testing.assert_close(embed_images(model, images, precision="fp32", flip=True), flipped, rtol=1e-4, atol=1e-5)
    assert (exact * flipped).sum(1).max() < 0.999


def test_a_model_that_wants_blue_first_gets_blue_first(tmp_path):
    save_one(tmp_path)
    model = load_model(str(tmp_path), BUILD)
    bgr = replace(model, image_spec=replace(model.image_spec, colour="BGR"))
    images = faces()
    swapped = embed_images(model, images[:, [2, 1, 0]], precision="fp32")
    torch.testing.assert_close(embed_images(bgr, images, precision="fp32"), swapped)
    assert (swapped * embed_images(model, images, precision="fp32")).sum(1).max() < 0.999


def test_faces_of_another_size_are_refused(tmp_path):
    save_one(tmp_path)
    with pytest.raises(OccframeError, match=r"the model takes \[B, 3, 32, 48\] images, these are \[4, 3, 48, 32\]"):
        embed_images(load_model(str(tmp_path), BUILD), faces(4, 48, 32))


# --- step `pretrained` ------------------------------------------------------------------------------------------------


def pretrained(tmp_path, weights: str, **backbone) -> FakeStepContext:
    options = {"backbone": backbone or SMALL, "weights": weights}
    return FakeStepContext(tmp_path / "run" / "model", options, PretrainedConfig, registry=REGISTRY)


def test_a_checkpoint_becomes_a_model(tmp_path):
    network = BuildContext(REGISTRY, seed=9).build(block_of(**SMALL)).eval()
    torch.save({"state_dict_backbone": network.state_dict()}, tmp_path / "checkpoint_gpu_0.pt")
    context = pretrained(tmp_path, str(tmp_path / "checkpoint_gpu_0.pt"))
    outcome = PretrainedStep().run(context)
    model = load_model(context.url, BUILD)
    assert outcome.outputs[""]["fingerprint"] == model.fingerprint
    x = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(model.backbone(x).embedding, network(x).embedding, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_of_another_architecture_is_refused_by_its_keys(tmp_path):
    deep, shallow = (SMALL | {"use": name} for name in ("iresnet34", "iresnet18"))
    save_one(tmp_path / "deep", **deep)
    context = pretrained(tmp_path, str(tmp_path / "deep" / "model.safetensors"), **shallow)
    with pytest.raises(
        OccframeError, match=r"do not fit this IResNet: 144 unknown to it: layer1\.2\.bn1\.bias"
    ) as error:
        PretrainedStep().run(context)
    assert error.value.remedy == "they look like `{use: iresnet34, embedding_dim: 8}`"
    save_one(tmp_path / "small", use="mobilefacenet")
    context = pretrained(tmp_path, str(tmp_path / "small" / "model.safetensors"), **shallow)
    with pytest.raises(
        OccframeError, match=r"missing: conv1\.weight, bn1\.weight.*unknown to it: fc\.conv\.weight"
    ) as error:
        PretrainedStep().run(context)
    assert "{use: mobilefacenet, preset: paper, input_size: [112, 112], embedding_dim: 128}" in error.value.remedy


def test_weights_with_a_nan_are_refused(tmp_path):
    save_one(tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    state["stage2.0.expand.conv.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(OccframeError, match="gives embeddings that are not finite"):
        PretrainedStep().run(pretrained(tmp_path, str(tmp_path / "nan.safetensors")))
