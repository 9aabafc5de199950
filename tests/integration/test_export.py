from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from occframe import BuildContext, OccframeError
from occframe.cli import cli
from occframe.component import BackboneBlock, GeneratorBlock
from occframe.exporting import export_onnx
from occframe.generators import load_generator, save_generator
from occframe.model_files import read_state
from occframe.models import embed_images, load_model, save_model
from occframe.standalone import parse_block, standalone_context
from occframe.weights import load_state_dict, read_state_dict

onnx = pytest.importorskip("onnx", reason="needs the extra `onnx`")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

FROM = {"use": "from", "trunk": {"use": "mobilefacenet", "input_size": [32, 32]}, "pyramid": 16, "blocks": 3}
CSE = {"use": "cse", "size": 32, "width": 8, "blocks": 2}


@pytest.fixture(scope="module")
def context() -> BuildContext:
    return standalone_context()


@pytest.fixture(scope="module")
def model(context, tmp_path_factory):
    """FROM on a small trunk, its norms with statistics of their own so that folding them shows."""
    url = str(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    block = parse_block(BackboneBlock, FROM, context)
    backbone = context.build(block)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    save_model(url, backbone, block)
    return url


@pytest.fixture(scope="module")
def exported(model, context, tmp_path_factory):
    target = str(tmp_path_factory.mktemp("onnx") / "model.onnx")
    return export_onnx(model, target, context)


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def test_onnx_gives_the_same_embedding_and_mask_at_any_batch_size(exported, model, context):
    assert exported.outputs == ("embedding", "mask")
    assert exported.difference <= 1e-4
    backbone = load_model(model, context).backbone
    session = runtime.InferenceSession(exported.url, providers=["CPUExecutionProvider"])
    for size in (1, 5):
        images = torch.rand(size, 3, 32, 32) * 2 - 1
        embedding, mask = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            wanted = backbone(images)
        normalised = F.normalize(torch.from_numpy(embedding))
        torch.testing.assert_close(normalised, F.normalize(wanted.embedding), atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.from_numpy(mask), wanted.extras["mask"], atol=1e-4, rtol=0)


def test_the_file_says_what_it_wants_to_be_fed(exported):
    (entry,) = onnx.load(exported.url).metadata_props
    facts = json.loads(entry.value)
    assert (entry.key, facts["kind"], facts["image_spec"]["height"]) == ("occframe", "backbone", 32)
    assert onnx.load(exported.url).opset_import[0].version == 18


def test_it_comes_back_as_a_backbone(exported, model, context, tmp_path):
    block = parse_block(BackboneBlock, {"use": "onnx", "path": exported.url}, context)
    again = context.build(block)
    assert again.image_spec == load_model(model, context).image_spec
    assert again.embedding_dim == 128
    save_model(str(tmp_path), again, block)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(
        embed_images(load_model(str(tmp_path), context), images),
        embed_images(load_model(model, context), images, precision="fp32"),
        atol=1e-4,
        rtol=0,
    )


def test_another_file_under_its_path_is_noticed(exported, context, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(Path(exported.url).read_bytes())
    block = parse_block(BackboneBlock, {"use": "onnx", "path": str(path)}, context)
    save_model(str(tmp_path / "run"), context.build(block), block)
    changed = onnx.load(str(path))
    changed.producer_name = "somebody else"
    onnx.save(changed, str(path))
    with pytest.raises(OccframeError, match="another file than the one this model was made from"):
        load_model(str(tmp_path / "run"), context)


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_strangers_file(context, tmp_path, batch):
    """As InsightFace's are: no metadata, names of its own, here and there a batch of one."""
    weight = np.random.default_rng(0).normal(size=(3 * 16 * 16, 4)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Flatten", ["input.1"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weight"], ["683"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "stranger",
        [onnx.helper.make_tensor_value_info("input.1", onnx.TensorProto.FLOAT, [batch, 3, 16, 16])],
        [onnx.helper.make_tensor_value_info("683", onnx.TensorProto.FLOAT, [batch, 4])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "w600k.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    backbone = context.build(parse_block(BackboneBlock, {"use": "onnx", "path": str(path)}, context))
    assert (backbone.image_spec.height, backbone.image_spec.mean, backbone.embedding_dim) == (16, (0.5, 0.5, 0.5), 4)
    images = torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(backbone(images).embedding, images.flatten(1) @ torch.from_numpy(weight))
    with pytest.raises(OccframeError, match="no output `fc1`"):
        context.build(parse_block(BackboneBlock, {"use": "onnx", "path": str(path), "output": "fc1"}, context))


def test_what_is_no_onnx(context, tmp_path):
    path = tmp_path / "a.onnx"
    block = parse_block(BackboneBlock, {"use": "onnx", "path": str(path)}, context)
    with pytest.raises(OccframeError, match="no ONNX file"):
        context.build(block)
    path.write_bytes(b"nonsense")
    with pytest.raises(OccframeError, match="cannot be read as ONNX"):
        context.build(block)


def test_safetensors(model, context, tmp_path):
    target = tmp_path / "weights.safetensors"
    assert "weights.safetensors" in run("export", model, target)
    fresh = context.build(parse_block(BackboneBlock, FROM, context))
    load_state_dict(fresh, read_state_dict(str(target)), origin=str(target))
    old = read_state(model)
    assert fresh.state_dict().keys() == old.keys()
    assert all(torch.equal(fresh.state_dict()[key], old[key]) for key in old)


def test_targets_and_models_that_are_none(tmp_path):
    with pytest.raises(Exception, match=r"\.onnx or \.safetensors"):
        run("export", tmp_path, tmp_path / "model.pt")
    with pytest.raises(OccframeError, match=r"model\.json"):
        run("export", tmp_path, tmp_path / "a.safetensors")


@pytest.fixture(scope="module", params=[False, True], ids=["cse", "cse that blends"])
def generator(request, context, tmp_path_factory):
    """A remover of glasses that is not the identity."""
    url = str(tmp_path_factory.mktemp("generator"))
    block = parse_block(GeneratorBlock, CSE | {"blend": request.param}, context)
    torch.manual_seed(0)
    network = context.build(block)
    for weight in network.parameters():
        weight.data += torch.randn_like(weight) * 0.1
    save_generator(url, network, block)
    return url


def test_a_generator_gives_the_same_faces_and_alpha_at_any_batch_size(generator, context, tmp_path):
    target = tmp_path / "remover.onnx"
    told = json.loads(run("export", generator, target, "--opset", 20, "--json"))
    network = load_generator(generator, context).network
    session = runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for size in (1, 5):
        images = torch.rand(size, 3, 32, 32) * 2 - 1
        with torch.inference_mode():
            output = network(images)
        wanted = {"result": output.images} | ({} if output.alpha is None else {"alpha": output.alpha})
        assert told["outputs"] == list(wanted)
        assert (output.images - images).abs().max() > 0.01
        for found, expected in zip(session.run(None, {"images": images.numpy()}), wanted.values(), strict=True):
            torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)
    exported = onnx.load(str(target))
    assert exported.opset_import[0].version == told["opset"] == 20
    assert json.loads(exported.metadata_props[0].value)["kind"] == "generator"


def test_weights_of_a_generator_go_out_and_come_back(generator, context, tmp_path):
    target = tmp_path / "remover.safetensors"
    run("export", generator, target)
    fresh = context.build(load_generator(generator, context).block)
    load_state_dict(fresh, read_state_dict(str(target)), origin=str(target))
    old = read_state(generator)
    assert fresh.state_dict().keys() >= old.keys()
    assert all(torch.equal(fresh.state_dict()[key], old[key]) for key in old)
