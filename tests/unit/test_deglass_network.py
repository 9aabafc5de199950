"""The convolution-SE generator and its discriminator: size, cost, independence of the batch, any input size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from occframe.component import BuildContext, GeneratorBlock
from occframe.plugins import PluginRegistry

REGISTRY = PluginRegistry.discover(environ={})
SMALL = {"size": 32, "width": 8, "blocks": 2}


def cse(seed: int = 0, **options) -> nn.Module:
    block = GeneratorBlock.model_validate({"use": "cse"} | options, context={"registry": REGISTRY})
    return BuildContext(REGISTRY, seed=seed).build(block)


def lived(network: nn.Module) -> nn.Module:
    """Evaluation mode, with batch norm statistics and weights that are not those of a new network."""
    torch.manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def faces(count: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def multiplications(network: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image, counted as they run."""
    counted = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        per_output = module.weight[0].numel()
        counted += output.numel() * per_output

    hooks = [
        module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network(faces(1, size, size))
    for hook in hooks:
        hook.remove()
    return counted


@pytest.mark.parametrize(("width", "millions"), [(32, 1.98), (64, 7.89)])
def test_parameters_are_those_of_the_reference_network(width, millions):
    assert sum(p.numel() for p in cse(width=width, blocks=6).parameters()) == pytest.approx(millions * 1e6, rel=0.01)


@pytest.mark.parametrize("blend", [False, True])
def test_cost_of_a_face(blend):
    network = cse(width=32, blocks=6, blend=blend).eval()
    assert multiplications(network, 112) <= 2.1e9
    assert multiplications(network, 256) <= 11e9


def test_the_discriminator_scores_patches_of_70_pixels():
    discriminator = cse(**SMALL).discriminator()
    widths = [m.out_channels for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 1]
    images = faces(1, 112, 112).requires_grad_()
    scores = discriminator(images)
    assert scores.shape == (1, 1, 12, 12)
    scores[0, 0, 6, 6].backward()
    seen = images.grad.abs().sum(dim=(0, 1)) > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 70


def test_spectral_norm_bounds_each_layer():
    discriminator = cse(**SMALL, discriminator={"width": 8, "spectral_norm": True}).discriminator()
    for _ in range(30):
        discriminator(faces(1))
    for module in discriminator.modules():
        if isinstance(module, nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("blend", [False, True])
def test_a_face_alone_gives_what_it_gives_in_a_batch(norm, blend):
    network = lived(cse(**SMALL, norm=norm, blend=blend))
    with torch.no_grad():
        together = network(faces(5))
        alone = [network(face[None]) for face in faces(5)]
    torch.testing.assert_close(torch.cat([output.images for output in alone]), together.images, atol=1e-5, rtol=1e-4)
    if blend:
        torch.testing.assert_close(torch.cat([output.alpha for output in alone]), together.alpha, atol=1e-5, rtol=1e-4)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(8, 41), width=st.integers(8, 41))
def test_any_size_is_padded_and_cut_back(height, width):
    network = lived(cse(**SMALL, blend=True))
    with torch.no_grad():
        output = network(faces(1, height, width))
    assert output.images.shape == (1, 3, height, width)
    assert output.alpha.shape == (1, 1, height, width)
    assert float(output.images.abs().max()) <= 1


def test_padding_is_a_reflection():
    network = lived(cse(**SMALL))
    image = faces(1, 30, 32)
    mirrored = torch.cat([image, image[:, :, 28:29], image[:, :, 27:28]], 2)
    with torch.no_grad():
        torch.testing.assert_close(network(image).images, network(mirrored).images[:, :, :30])


@pytest.mark.parametrize(
    "options", [{}, {"upsampling": "transposed"}, {"upsampling": "bilinear"}, {"norm": "instance"}]
)
@pytest.mark.parametrize("se", ["all", "middle", "none"])
def test_the_form_for_inference_gives_the_same(options, se):
    network = lived(cse(**SMALL, **options, se=se, blend=True))
    form = network.generate_form()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    with torch.no_grad():
        torch.testing.assert_close(form(faces(2)).images, network(faces(2)).images, atol=1e-5, rtol=1e-4)


def test_where_alpha_is_nothing_a_pixel_stays():
    network = lived(cse(**SMALL, blend=True))
    nn.init.zeros_(network.to_alpha.weight)
    nn.init.constant_(network.to_alpha.bias, -200.0)
    with torch.no_grad():
        assert torch.equal(network(faces(2)).images, faces(2))


def test_squeeze_and_excitation_follows_its_formula():
    layer = cse(**SMALL).middle[0].weighting
    maps = faces(2).repeat(1, 11, 1, 1)[:, :32]
    squeezed = maps.mean(dim=(2, 3))
    reduce, expand = layer.excitation.reduce, layer.excitation.expand
    weights = torch.sigmoid(torch.relu(squeezed @ reduce.weight.T + reduce.bias) @ expand.weight.T + expand.bias)
    torch.testing.assert_close(layer(maps), maps * weights[:, :, None, None])
    assert reduce.out_features == 4  # 32 / 16 would be 2


def test_se_stands_where_it_is_asked_for():
    def layers(**options) -> list[bool]:
        network = cse(**SMALL, **options)
        return [hasattr(block.weighting, "excitation") for block in (*network.down, *network.middle, *network.up)]

    assert layers() == [True] * 6
    assert layers(se="middle") == [False, False, True, True, False, False]
    assert layers(se="none") == [False] * 6


def test_the_seed_decides_the_weights_and_leaves_other_randomness_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (cse(seed, **SMALL).stem.conv.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
