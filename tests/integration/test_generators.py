"""Generators on disk and back, and faces of any size through them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from occframe import Config, GeneratorOutput, ImageSpec, hookimpl
from occframe.component import BuildContext, GeneratorBlock
from occframe.errors import OccframeError
from occframe.generators import generate_images, load_generator, save_generator
from occframe.models import load_model
from occframe.plugins import PluginRegistry

REGISTRY = PluginRegistry.discover(environ={})
SMALL = {"use": "cse", "size": 32, "width": 8, "blocks": 1, "blend": True}


class RedderConfig(Config):
    pass


class Redder(nn.Module):
    """Sets the first channel of the left half to its maximum, and says so by alpha."""

    def __init__(self, config, context) -> None:
        super().__init__()
        self.image_spec = ImageSpec(16, 16, colour="BGR")

    def forward(self, images):
        alpha = torch.zeros_like(images[:, :1])
        alpha[..., : images.shape[3] // 2] = 1
        blue = torch.ones_like(images) * torch.tensor([1.0, -1, -1], device=images.device).view(1, 3, 1, 1)
        return GeneratorOutput(alpha * blue + (1 - alpha) * images, alpha)


class RedderPlugin:
    @staticmethod
    @hookimpl
    def occframe_register_generators(register):
        register("redder", Redder, config=RedderConfig, summary="paints the left half")


def saved(url, registry=REGISTRY, **options):
    block = GeneratorBlock.model_validate(options or SMALL, context={"registry": registry})
    network = BuildContext(registry, seed=4).build(block)
    return network, save_generator(str(url), network, block, extra={"iterations": 7})


def pictures(count=3, height=32, width=32):
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )


@pytest.mark.parametrize("url", ["{tmp}/remover", "memory://runs/remover"])
def test_a_generator_comes_back_as_it_was(tmp_path, url):
    network, card = saved(url.format(tmp=tmp_path))
    model = load_generator(url.format(tmp=tmp_path), BuildContext(REGISTRY))
    assert (model.fingerprint, model.card.extra) == (card["fingerprint"], {"iterations": 7})
    assert model.image_spec == network.image_spec
    made = generate_images(model, pictures(), precision="fp32")
    with torch.no_grad():
        expected = network.eval()(pictures().float() / 127.5 - 1)
    torch.testing.assert_close(made.images, (expected.images + 1) / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made.alpha, expected.alpha, atol=1e-5, rtol=1e-4)


def test_bytes_and_floats_are_the_same_picture_and_bf16_is_close(tmp_path):
    saved(tmp_path)
    model = load_generator(str(tmp_path), BuildContext(REGISTRY))
    exact = generate_images(model, pictures(), precision="fp32").images
    torch.testing.assert_close(generate_images(model, pictures().float() / 255, precision="fp32").images, exact)
    assert float((generate_images(model, pictures(), precision="bf16").images - exact).abs().max()) < 0.03


def test_a_recogniser_is_no_generator(tmp_path):
    saved(tmp_path)
    with pytest.raises(OccframeError, match=r"no model description: backbone: Field required"):
        load_model(str(tmp_path), BuildContext(REGISTRY))
    (tmp_path / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(OccframeError, match=r"is damaged: model\.safetensors does not belong"):
        load_generator(str(tmp_path), BuildContext(REGISTRY))
    with pytest.raises(OccframeError, match="there is no model at"):
        load_generator(str(tmp_path / "nowhere"), BuildContext(REGISTRY))


def test_colour_order_range_and_size_come_back(tmp_path):
    registry = PluginRegistry.discover(environ={})
    registry.register(RedderPlugin, name="redder", distribution="acme")
    saved(tmp_path, registry, use="redder")
    model = load_generator(str(tmp_path), BuildContext(registry))
    given = pictures(2, 64, 48)
    made = generate_images(model, given, precision="fp32")
    assert made.images.shape == given.shape
    # Blue is the first channel of a BGR network, the last of what comes back.
    left = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(2, 3, 64, 16)
    torch.testing.assert_close(made.images[..., :16], left, atol=1e-5, rtol=0)
    # Away from the change nothing was resized.
    torch.testing.assert_close(made.images[..., 32:], given[..., 32:].float() / 255, atol=1e-5, rtol=0)
