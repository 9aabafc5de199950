"""FROM around real trunks: shapes, counts, forms, weights of earlier models and of its authors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError
from occframe.models import begin_from, embed_images, load_model, save_model
from occframe.plugins import PluginRegistry
from occframe.weights import load_state_dict
from occframe_from.masking import MeanFill

torch.set_num_threads(1)
REGISTRY = PluginRegistry.discover()
BUILD = BuildContext(REGISTRY, seed=3)
SMALL = {"use": "mobilefacenet", "input_size": [64, 48], "embedding_dim": 32}


def block(use: str = "from", **options: Any) -> BackboneBlock:
    if use == "from":
        options = {"trunk": SMALL, "pyramid": 8, "blocks": 3} | options
    return BackboneBlock.model_validate({"use": use, **options}, context={"registry": REGISTRY})


def build(use: str = "from", **options: Any) -> Any:
    return BUILD.build(block(use, **options))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def lived_in(module: nn.Module) -> nn.Module:
    """Weights and statistics as after a training: a batch norm that does nothing proves no folding."""
    generator = torch.Generator().manual_seed(5)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.normal_(0, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(layer.weight, 0.6, 1.4, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.2, generator=generator)
    return module


def images(count: int = 2, height: int = 64, width: int = 48) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 49_291_652), ({"patterns": "none"}, 44_388_288), ({"masked": False}, 41_797_824)],
)
def test_the_reference_network_has_the_published_number_of_parameters(options: dict[str, Any], count: int) -> None:
    assert parameters(build("from-reference", **options)) == count


def test_the_reference_network_has_the_published_shapes() -> None:
    model = build("from-reference").eval()
    with torch.no_grad():
        output = model(images(1, 112, 96))
    assert [tuple(map_.shape[1:]) for map_ in output.features] == [
        (64, 56, 48),
        (128, 28, 24),
        (256, 14, 12),
        (512, 7, 6),
    ]
    assert output.extras["mask"].shape == (1, 512, 7, 6)
    assert output.extras["pattern_logits"].shape == (1, 226)
    assert output.embedding.shape == (1, 512)
    assert 0 <= float(output.extras["mask"].min()) < float(output.extras["mask"].max()) <= 1


@pytest.mark.parametrize("trunk", [SMALL, {"use": "iresnet18", "input_size": [64, 64], "embedding_dim": 16}])
@pytest.mark.parametrize("head", ["trunk", "reference"])
def test_it_wraps_any_trunk_with_split(trunk: dict[str, Any], head: str) -> None:
    model = build(trunk=trunk, head=head)
    height, width = trunk["input_size"]
    output = model(images(3, height, width))
    assert output.embedding.shape == (3, trunk["embedding_dim"])
    assert output.extras["mask"].shape == (3, 512, height // 16, width // 16)
    assert output.extras["pattern_logits"].shape == (3, 37)
    (output.embedding.sum() + output.extras["pattern_logits"].square().sum()).backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []  # no dead layer


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (3, 512, 4, 3)),
        ({"mask_shape": "2d"}, (3, 1, 4, 3)),
        ({"mask_on": "embedding"}, (3, 32)),
    ],
)
@pytest.mark.parametrize("patterns", ["classification", "regression", "none"])
def test_every_variant_runs(options: dict[str, Any], shape: tuple[int, ...], patterns: str) -> None:
    output = build(patterns=patterns, **options)(images(3))
    assert output.extras["mask"].shape == shape
    assert output.embedding.shape == (3, 32)
    expected = {"classification": {"mask", "pattern_logits"}, "regression": {"mask", "pattern_box"}, "none": {"mask"}}
    assert set(output.extras) == expected[patterns]
    if patterns == "regression":
        box = output.extras["pattern_box"]
        assert box.shape == (3, 4)
        assert float(box.detach().min()) >= 0
        assert float(box.detach().max()) <= 1


def test_the_predictor_reads_the_mask_alone() -> None:
    model = build().eval()
    output = model(images())
    assert torch.equal(model.predictor(output.extras["mask"].detach()), output.extras["pattern_logits"])


def test_cleaning_multiplies_the_deepest_map_by_the_mask() -> None:
    model = build().eval()
    with torch.no_grad():
        output = model(images())
        expected = model.trunk.forward_head(output.features[-1] * output.extras["mask"])
    assert torch.equal(output.embedding, expected)


@pytest.mark.parametrize("options", [{}, {"mask_shape": "2d"}, {"mask_on": "embedding"}])
@pytest.mark.parametrize("open_bias", [0, 2.0])
def test_an_open_mask_begins_as_its_trunk(options: dict[str, Any], open_bias: float) -> None:
    model = build(open_bias=open_bias, **options).eval()
    with torch.no_grad():
        output, plain = model(images()), model.trunk(images())
    torch.testing.assert_close(output.extras["mask"], torch.ones_like(output.extras["mask"]), rtol=0, atol=1e-6)
    torch.testing.assert_close(output.embedding, plain.embedding)


def test_masked_features_become_their_mean_over_the_training_faces() -> None:
    model = build(fill="mean", open_bias=2.0)
    model.train()
    model.trunk.eval()
    with torch.no_grad():
        seen = [model(images() + shift).features[-1] for shift in (0, 0.5, 1)]
    mean = torch.cat(seen).mean(0)
    torch.testing.assert_close(model.fill.mean, mean)  # the mask is still open everywhere
    closed = torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1, 1)
    features = seen[0][:1].expand(3, -1, -1, -1)
    filled = model.eval().fill(features, closed)
    torch.testing.assert_close(filled[0], features[0])
    torch.testing.assert_close(filled[1], (features[0] + mean) / 2)
    torch.testing.assert_close(filled[2], mean)
    assert torch.equal(model.fill.mean, model.embed_form().fill.mean)


def test_features_that_the_mask_hides_do_not_enter_their_mean() -> None:
    fill = MeanFill(channels=2, size=(1, 2)).train()
    features = torch.tensor([[1.0, 9.0], [3.0, 5.0]]).view(2, 1, 1, 2).expand(2, 2, 1, 2)
    fill(features, torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 1, 1, 2))
    assert fill.mean.tolist() == [[[2.0, 5.0]], [[2.0, 5.0]]]
    fill(features, torch.zeros(2, 1, 1, 2))  # nothing was seen
    assert fill.mean.tolist() == [[[2.0, 5.0]], [[2.0, 5.0]]]


@pytest.mark.parametrize("patterns", ["classification", "regression"])
def test_a_mask_that_begins_open_has_no_exploding_gradient(patterns: str) -> None:
    model = build(open_bias=2.0, patterns=patterns, blocks=5, trunk=SMALL).train()
    extras = model(images(16)).extras
    if patterns == "classification":
        loss = nn.functional.cross_entropy(extras["pattern_logits"], torch.arange(16) * 5)
    else:
        loss = (extras["pattern_box"] - 0.2).square().mean()
    loss.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.decoder.parameters()]).norm()
    assert float(norm) < 20


@pytest.mark.parametrize(
    "options",
    [
        {"trunk": {"use": "iresnet18", "input_size": [64, 48], "embedding_dim": 32}, "head": "reference"},
        {"trunk": {"use": "iresnet18", "input_size": [64, 48], "embedding_dim": 32}},
        {},
        {"mask_on": "embedding"},
        {"fill": "mean"},
    ],
)
def test_forms_for_inference_give_the_same(options: dict[str, Any]) -> None:
    model = lived_in(build(**options)).eval()
    embed, explain = model.embed_form(), model.explain_form()
    with torch.inference_mode():
        whole, lean, full = model(images(4)), embed(images(4)), explain(images(4))
    scale = float(whole.embedding.abs().max())
    assert float((whole.embedding - lean.embedding).abs().max()) <= 1e-5 * max(scale, 1)
    assert "pattern_logits" not in lean.extras
    torch.testing.assert_close(full.extras["pattern_logits"], whole.extras["pattern_logits"], rtol=1e-3, atol=1e-3)
    norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in form.modules()) for form in (model, embed)]
    assert norms[1] < norms[0] / 2
    assert model.predictor is not None  # the original is untouched
    assert not model.training


def test_batch_norms_before_padded_convolutions_are_not_folded() -> None:
    model = build(trunk={"use": "iresnet18", "input_size": [64, 48]}).embed_form()
    kept = {name.rpartition(".")[2] for name, layer in model.trunk.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert kept == {"bn1", "bn2"}  # each block's first, and the head's own
    assert isinstance(model.trunk.bn1, nn.Identity)
    assert isinstance(model.decoder[2], nn.BatchNorm2d)


def test_a_saved_model_embeds_without_its_predictor_and_explains_with_it(tmp_path) -> None:
    model = lived_in(build())
    save_model(str(tmp_path), model, block())
    faces = torch.randint(0, 256, (3, 3, 64, 48), dtype=torch.uint8)
    embeds, explains = load_model(str(tmp_path), BUILD), load_model(str(tmp_path), BUILD, purpose="explain")
    assert embeds.backbone.predictor is None
    assert "pattern_logits" in explains.backbone(images()).extras
    left, right = (embed_images(loaded, faces, precision="fp32") for loaded in (embeds, explains))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_training_begins_from_a_plain_trunk(tmp_path) -> None:
    trunk_block = block(**SMALL)
    trunk = lived_in(BUILD.build(trunk_block))
    save_model(str(tmp_path), trunk, trunk_block)
    model = build(open_bias=2.0)
    decoder = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    begin_from(model, str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images()).embedding, trunk.eval()(images()).embedding)
    assert all(torch.equal(value, decoder[name]) for name, value in model.decoder.state_dict().items())


def test_training_begins_from_an_earlier_stage(tmp_path) -> None:
    earlier = lived_in(build())
    save_model(str(tmp_path), earlier, block())
    model = build()
    begin_from(model, str(tmp_path))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in earlier.state_dict().items())


def test_training_begins_from_other_patterns_all_but_the_predictor(tmp_path) -> None:
    earlier = lived_in(build(blocks=4))
    save_model(str(tmp_path), earlier, block(blocks=4))
    model = build(blocks=3)
    begin_from(model, str(tmp_path))
    with torch.no_grad():
        ours, theirs = model.eval()(images()), earlier.eval()(images())
    assert torch.equal(ours.embedding, theirs.embedding)
    assert ours.extras["pattern_logits"].shape == (2, 37)


def test_training_does_not_begin_from_another_network(tmp_path) -> None:
    other = block("iresnet18", input_size=[64, 48], embedding_dim=32)
    save_model(str(tmp_path), BUILD.build(other), other)
    with pytest.raises(OccframeError, match="was made for ImageSpec"):
        begin_from(build(), str(tmp_path))
    wider = block(pyramid=16)
    save_model(str(tmp_path), BUILD.build(wider), wider)
    with pytest.raises(
        OccframeError, match=r"pyramid\.laterals\.0\.weight \[16, 64, 1, 1\] instead of \[8, 64, 1, 1\]"
    ):
        begin_from(build(), str(tmp_path))


# --- the authors' checkpoints -----------------------------------------------------------------------------------------


def authors_checkpoint(model: nn.Module) -> dict[str, Tensor]:
    """Random weights under the names of the released files, dead pyramid levels among them."""
    state = {}
    for key, tensor in model.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "trunk":
            name = f"{rest.replace('prelu.', 'prelu1.')}"
        elif part == "pyramid":
            names = {"laterals.0": "P3_1", "laterals.1": "P4_1", "laterals.2": "P5_1", "smooth": "P3_2"}
            layer, _, kind = rest.rpartition(".")
            name = f"fpn.{names[layer]}.{kind}"
        else:
            name = f"{ {'decoder': 'mask', 'head': 'fc', 'predictor': 'regress'}[part] }.{rest}"
        state[name] = torch.rand_like(tensor) if tensor.is_floating_point() else tensor
    for dead, source in {"P4_2": 256, "P5_2": 256, "P6": 512, "P7_2": 256}.items():
        state[f"fpn.{dead}.weight"] = torch.zeros(256, source, 3, 3)
        state[f"fpn.{dead}.bias"] = torch.zeros(256)
    return state


def test_the_authors_checkpoint_loads_strictly() -> None:
    model = build("from-reference")
    state = authors_checkpoint(model)
    names = {key.rpartition(".")[0] for key in state}
    assert {"conv1", "bn1", "prelu1", "layer1.0.bn1", "layer4.2.prelu1", "layer2.0.downsample.0", "fpn.P3_2"} <= names
    assert {"mask.0", "mask.3", "regress.0", "regress.2", "regress.3", "fc.0", "fc.2", "fc.3"} <= names
    dead = sum(tensor.numel() for key, tensor in state.items() if key.split(".")[1] in ("P4_2", "P5_2", "P6", "P7_2"))
    assert dead == 2_950_144

    load_state_dict(model, state, origin="model_p5.pth")
    assert torch.equal(model.trunk.layer3[13].prelu.weight, state["layer3.13.prelu1.weight"])
    assert torch.equal(model.trunk.layer2[0].downsample[1].running_var, state["layer2.0.downsample.1.running_var"])
    assert torch.equal(model.trunk.prelu.weight, state["prelu1.weight"])
    assert torch.equal(model.pyramid.laterals[1].weight, state["fpn.P4_1.weight"])
    assert torch.equal(model.decoder[3].weight, state["mask.3.weight"])
    assert torch.equal(model.head[2].bias, state["fc.2.bias"])
    assert torch.equal(model.predictor[3].running_mean, state["regress.3.running_mean"])


def test_the_published_stage_1_begins_stage_2(tmp_path) -> None:
    stage1 = block("from-reference", masked=False)
    trunk = BUILD.build(stage1)
    save_model(str(tmp_path), trunk, stage1)
    model = build("from-reference")
    begin_from(model, str(tmp_path))
    assert torch.equal(model.head[2].weight, trunk.head[2].weight)
    assert torch.equal(model.trunk.layer4[0].conv1.weight, trunk.trunk.layer4[0].conv1.weight)


def test_a_plain_iresnet_begins_the_reference_network(tmp_path) -> None:
    plain = block("iresnet50", input_size=[112, 96])
    trunk = BUILD.build(plain)
    save_model(str(tmp_path), trunk, plain)
    model = build("from-reference")
    head = model.head[2].weight.clone()
    begin_from(model, str(tmp_path))
    assert torch.equal(model.trunk.layer4[0].conv1.weight, trunk.layer4[0].conv1.weight)
    assert torch.equal(model.head[2].weight, head)


def test_what_does_not_fit_of_the_authors_checkpoint_is_listed() -> None:
    model = build("from-reference")
    state = authors_checkpoint(model)
    del state["fpn.P3_2.bias"]
    state["fpn.P8.weight"] = torch.zeros(1)
    state["regress.2.weight"] = state["regress.2.weight"][:101]
    with pytest.raises(OccframeError) as error:
        load_state_dict(model, state, origin="model.pth")
    message = str(error.value)
    assert "1 missing: pyramid.smooth.bias" in message
    assert "1 unknown to it: fpn.P8.weight" in message
    assert "predictor.2.weight [101, 21504] instead of [226, 21504]" in message


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_trunk_without_split_is_refused() -> None:
    with pytest.raises(OccframeError, match="`from` cannot wrap `from-reference`: it lacks the capability `split`"):
        build(trunk={"use": "from-reference"})


def test_a_flat_mask_on_the_embedding_is_refused() -> None:
    with pytest.raises(ValidationError, match="use mask_on: features"):
        block(mask_shape="2d", mask_on="embedding")


def test_an_embedding_has_no_mean_to_fill_in() -> None:
    with pytest.raises(ValidationError, match="an embedding is masked to zero"):
        block(fill="mean", mask_on="embedding")
