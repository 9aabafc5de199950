from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.component import BackboneBlock, BuildContext
from occframe.plugins import PluginRegistry
from occframe_backbones.key_maps import guess_block, to_own_names

REGISTRY = PluginRegistry.discover()
SMALL = {"input_size": [32, 32], "embedding_dim": 16}
ALL = [
    {"use": "iresnet18"},
    {"use": "mobilefacenet"},
    {"use": "mobilefacenet", "preset": "foamliu"},
    {"use": "mobilefacenet", "preset": "xiaoccer"},
]


def build(seed: int = 0, **block) -> nn.Module:
    model = BackboneBlock.model_validate(block, context={"registry": REGISTRY})
    return BuildContext(REGISTRY, seed=seed).build(model)


def parameters(**block) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(**block).parameters())


def unlike_fresh(module: nn.Module) -> nn.Module:
    """Batch norms with figures of their own, so that a forgotten or misplaced one shows."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for tensor in (layer.weight, layer.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
            for tensor in (layer.bias, layer.running_mean):
                tensor.data = torch.randn(tensor.shape, generator=generator) * 0.1
    return module.eval()


# --- what every backbone keeps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ALL, ids=str)
def test_maps_and_embedding_are_as_declared(block):
    network = build(**(block | SMALL)).eval()
    spec = network.image_spec
    output = network(torch.randn(2, 3, spec.height, spec.width))
    assert output.embedding.shape == (2, network.embedding_dim) == (2, 16)
    for info, feature in zip(network.feature_info, output.features, strict=True):
        assert feature.shape == (2, info.channels, spec.height // info.stride, spec.width // info.stride)
    assert [info.stride for info in network.feature_info] == [2, 4, 8, 16]


@pytest.mark.parametrize("block", ALL, ids=str)
def test_the_split_is_the_network(block):
    network = unlike_fresh(build(**(block | SMALL)))
    images = torch.randn(2, 3, 32, 32)
    output = network(images)
    maps = network.forward_features(images)
    assert all(torch.equal(one, other) for one, other in zip(maps, output.features, strict=True))
    assert torch.equal(network.forward_head(maps[-1]), output.embedding)


@pytest.mark.parametrize("block", [block for block in ALL if block["use"] == "mobilefacenet"], ids=str)
def test_the_form_for_embedding_gives_the_same_without_batch_norms(block):
    network = unlike_fresh(build(**(block | SMALL)))
    spec = network.image_spec
    images = torch.randn(3, 3, spec.height, spec.width)
    form = network.embed_form()
    assert not [module for module in form.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        ours, plain = (F.normalize(model(images).embedding) for model in (form, network))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_trainable_parameter_gets_a_gradient(block):
    network = build(**(block | SMALL)).train()
    images = torch.randn(4, 3, 32, 32, requires_grad=True)
    network(images).embedding.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters() if p.requires_grad)
    assert bool((images.grad != 0).any())


@pytest.mark.parametrize("block", ALL, ids=str)
def test_the_embedding_keeps_float32_under_autocast(block):
    network = unlike_fresh(build(**(block | SMALL)))
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images)
    assert output.embedding.dtype == torch.float32
    assert F.cosine_similarity(output.embedding, network(images).embedding).min() > 0.99


def test_the_seed_decides_the_weights_and_nothing_else_is_touched():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same, other = (build(seed=seed, use="iresnet18", **SMALL).conv1.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("size", [[100, 96], [16, 16], [112]])
def test_sizes_that_the_strides_do_not_divide_are_refused(size):
    with pytest.raises(ValueError, match="input_size"):
        build(use="iresnet18", input_size=size)


def test_a_network_may_be_fed_blue_first():
    assert build(use="iresnet18", **SMALL).image_spec.colour == "RGB"
    assert build(use="iresnet18", colour="BGR", **SMALL).image_spec.colour == "BGR"


# --- IResNet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions"), [("iresnet18", 24.03), ("iresnet34", 34.14), ("iresnet50", 43.59), ("iresnet100", 65.16)]
)
def test_published_parameter_counts(name, millions):
    assert parameters(use=name) / 1e6 == pytest.approx(millions, abs=0.005)
    assert parameters(use=name) - parameters(use=name, input_size=[112, 96]) == 512 * 512 * 7


def norm(name: str, channels: int) -> dict[str, list[int]]:
    sized = {f"{name}.{part}": [channels] for part in ("weight", "bias", "running_mean", "running_var")}
    return sized | {f"{name}.num_batches_tracked": []}


def iresnet_shapes(depths: tuple[int, ...], pixels: int) -> dict[str, list[int]]:
    """Names and shapes by arcface_torch's rule, spelled out."""
    shapes = {"conv1.weight": [64, 3, 3, 3], **norm("bn1", 64), "prelu.weight": [64]}
    inside = 64
    for stage, (depth, channels) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=1):
        for index in range(depth):
            block = f"layer{stage}.{index}"
            shapes |= norm(f"{block}.bn1", inside)
            shapes[f"{block}.conv1.weight"] = [channels, inside, 3, 3]
            shapes |= norm(f"{block}.bn2", channels)
            shapes[f"{block}.prelu.weight"] = [channels]
            shapes[f"{block}.conv2.weight"] = [channels, channels, 3, 3]
            shapes |= norm(f"{block}.bn3", channels)
            if index == 0:
                shapes[f"{block}.downsample.0.weight"] = [channels, inside, 1, 1]
                shapes |= norm(f"{block}.downsample.1", channels)
            inside = channels
    shapes |= norm("bn2", 512)
    shapes |= {"fc.weight": [512, 512 * pixels], "fc.bias": [512]}
    return shapes | norm("features", 512)


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("iresnet18", (2, 2, 2, 2)),
        ("iresnet34", (3, 4, 6, 3)),
        ("iresnet50", (3, 4, 14, 3)),
        ("iresnet100", (3, 13, 30, 3)),
    ],
)
@pytest.mark.parametrize(("size", "pixels"), [([112, 112], 49), ([112, 96], 42)])
def test_names_and_shapes_are_arcface_torchs(name, depths, size, pixels):
    with torch.device("meta"):
        state = build(use=name, input_size=size).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == iresnet_shapes(depths, pixels)
    assert guess_block(state) == f"{{use: {name}, input_size: [112, {size[1]}], embedding_dim: 512}}"


def test_iresnet_computes_what_arcface_torch_does():
    network = unlike_fresh(build(use="iresnet18", **SMALL))
    p = network.state_dict()

    def bn(name: str, x: Tensor) -> Tensor:
        figures = (p[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *figures, eps=1e-5)

    images = torch.randn(2, 3, 32, 32)
    x = F.prelu(bn("bn1", F.conv2d(images, p["conv1.weight"], padding=1)), p["prelu.weight"])
    for block, stride in chain.from_iterable([(f"layer{s}.0", 2), (f"layer{s}.1", 1)] for s in (1, 2, 3, 4)):
        y = F.conv2d(bn(f"{block}.bn1", x), p[f"{block}.conv1.weight"], padding=1)
        y = F.prelu(bn(f"{block}.bn2", y), p[f"{block}.prelu.weight"])
        y = bn(f"{block}.bn3", F.conv2d(y, p[f"{block}.conv2.weight"], stride=stride, padding=1))
        if stride == 2:
            x = bn(f"{block}.downsample.1", F.conv2d(x, p[f"{block}.downsample.0.weight"], stride=2))
        x = x + y
    x = F.linear(bn("bn2", x).flatten(1), p["fc.weight"], p["fc.bias"])
    torch.testing.assert_close(network(images).embedding, bn("features", x), rtol=1e-4, atol=1e-5)


def test_the_scale_of_the_last_norm_is_frozen():
    frozen = [name for name, p in build(use="iresnet18", **SMALL).named_parameters() if not p.requires_grad]
    assert frozen == ["features.weight"]


# --- MobileFaceNet ----------------------------------------------------------------------------------------------------


def test_mobilefacenet_has_a_million_parameters():
    assert parameters(use="mobilefacenet") == 1_003_136
    assert parameters(use="mobilefacenet", preset="xiaoccer") == 999_552
    assert parameters(use="mobilefacenet", preset="foamliu") == 999_936


def test_presets_fix_what_the_network_is_fed():
    paper, foamliu, xiaoccer = (
        build(use="mobilefacenet", preset=preset).image_spec for preset in ("paper", "foamliu", "xiaoccer")
    )
    assert (paper.height, paper.width) == (foamliu.height, foamliu.width) == (112, 112)
    assert (xiaoccer.height, xiaoccer.width) == (112, 96)
    assert foamliu.mean == (0.485, 0.456, 0.406)
    # (x - 127.5) / 128, said as (x / 255 - mean) / std
    assert [value * 255 for value in (*xiaoccer.mean, *xiaoccer.std)] == pytest.approx([127.5] * 3 + [128] * 3)


def foamliu_modules() -> list[str]:
    blocks = [f"features.{i}.conv.{part}" for i in range(15) for part in ("0.0", "0.1", "1.0", "1.1", "2", "3")]
    stem = ["conv1.0", "conv1.1", "dw_conv.depthwise", "dw_conv.bn1", "dw_conv.pointwise", "dw_conv.bn2"]
    return [*stem, *blocks, "conv2.0", "conv2.1", "gdconv.depthwise", "gdconv.bn", "conv3", "bn"]


def xiaoccer_modules() -> list[str]:
    outer = {"conv1": True, "dw_conv1": True, "conv2": True, "linear7": False, "linear1": False}
    parts = [[f"{name}.conv", f"{name}.bn", *([f"{name}.prelu"] if active else [])] for name, active in outer.items()]
    return [*chain(*parts), *(f"blocks.{i}.conv.{part}" for i in range(15) for part in range(8))]


@pytest.mark.parametrize(("preset", "modules"), [("foamliu", foamliu_modules()), ("xiaoccer", xiaoccer_modules())])
def test_public_names_cover_the_network_once(preset, modules):
    renamed = to_own_names({f"{name}.weight": torch.zeros(1, 1, 1, 1) for name in modules})
    own = {key for key in build(use="mobilefacenet", preset=preset).state_dict() if key.endswith(".weight")}
    assert set(renamed) == own
    assert len(renamed) == len(modules)


@pytest.mark.parametrize("preset", ["paper", "foamliu"])
def test_a_checkpoint_of_ours_is_recognised_and_keeps_its_names(preset):
    state = build(use="mobilefacenet", preset=preset, embedding_dim=64).state_dict()
    assert to_own_names(state).keys() == state.keys()
    assert guess_block(state) == f"{{use: mobilefacenet, preset: {preset}, input_size: [112, 112], embedding_dim: 64}}"


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"fc.weight": torch.zeros(3)},
        {"fc.conv.weight": torch.zeros(()), "pool.conv.weight": torch.zeros(2)},
        {f"layer{stage}.{i}.conv1.weight": torch.zeros(1) for stage in (1, 2, 3, 4) for i in (0, 1)}
        | {"fc.weight": torch.zeros(1000, 512)},
    ],
    ids=["empty", "flat", "odd shapes", "torchvision's resnet18"],
)
def test_networks_of_others_are_not_claimed(state: Mapping[str, Tensor]):
    assert guess_block(state) is None
