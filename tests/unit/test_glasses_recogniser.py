"""The glasses recogniser's parts: network, calibration, and what it takes for eyeglasses and sunglasses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from occframe.component import BackboneBlock, BuildContext, DatasetBlock, OcclusionBlock
from occframe.data import BadImage, FaceLoader
from occframe.errors import OccframeError
from occframe.face_frame import template_landmarks
from occframe.plugins import PluginRegistry
from occframe.standalone import parse_block
from occframe.types import FaceBatch
from occframe.weights import load_state_dict
from occframe_deglass.calibration import (
    EITHER,
    calibrated,
    expected_calibration_error,
    f1_score,
    fit_calibration,
    log_likelihood,
)
from occframe_deglass.recogniser import EyeBand, GlassesRecogniser
from occframe_deglass.recogniser_data import GlassesBatches, kinds_of_glasses, light_behind_lenses, synthetic_kinds
from occframe_deglass.recogniser_training import Answers, jitter

BUILD = BuildContext(PluginRegistry.discover())
TEMPLATE = template_landmarks(112, 112)


def drawn(identities: int = 4, images: int = 3, **attributes: Any) -> Any:
    faces = BUILD.build(
        parse_block(DatasetBlock, {"use": "synthetic", "identities": identities, "images": images}, BUILD)
    )
    faces.attributes = attributes
    return faces


# --- network ----------------------------------------------------------------------------------------------------------


def test_the_network_is_small_and_sees_each_image_alone() -> None:
    torch.manual_seed(0)
    network = GlassesRecogniser(EyeBand(size=112, width=16), dropout=0.1).eval()
    assert sum(item.numel() for item in network.parameters()) == 338_579  # the bar is 1.3 M
    images = torch.randn(3, 3, 112, 112)
    output = network(images)
    assert output.embedding.shape == (3, 3)
    assert torch.allclose(output.embedding[1:2], network(images[1:2]).embedding, atol=1e-5)
    said = network.describe(output)
    assert set(said) == set(network.columns)
    assert ((said["sunglasses"] <= said["glasses"]) & (said["glasses"] <= 1)).all()
    network.bias.fill_(9.0)
    assert (network.describe(output)["glasses"] > said["glasses"]).all()


def test_only_the_band_of_the_eyes_is_seen() -> None:
    network = GlassesRecogniser(EyeBand(size=112, width=4), dropout=0).eval()
    images = torch.rand(1, 3, 112, 112)
    other = images.clone()
    other[:, :, :22], other[:, :, 88:] = 0, 1
    assert torch.equal(network(images).embedding, network(other).embedding)


def on_trunk(**options: Any) -> Any:
    small = {"use": "mobilefacenet", "input_size": [32, 32], "embedding_dim": 16}
    return BUILD.build(parse_block(BackboneBlock, {"use": "glasses-recogniser", "trunk": small} | options, BUILD))


def test_a_trunk_says_what_it_is_given_and_its_map_is_read() -> None:
    network = on_trunk().eval()
    assert network.image_spec == network.trunk.image_spec
    assert network.image_spec.height == 32
    assert network.head[-1].in_features == 128 * 14  # the map of stride 8; mean, maximum and a grid of 3 x 4
    assert on_trunk(maps=["stage1", "last"]).head[-1].in_features == (64 + 512) * 14
    torch.nn.init.normal_(network.head[-1].weight)
    images = torch.randn(3, 3, 32, 32)
    logits = network(images).embedding
    assert logits.shape == (3, 3)
    assert torch.allclose(logits[1:2], network(images[1:2]).embedding, atol=1e-4)
    seen = network.trunk.forward_features(images)[2]
    seen[:, :, 1:3] = 0  # of four rows those that glasses reach
    assert torch.equal(network._summary([seen] * 3), torch.zeros(3, 128 * 14))


def test_on_the_public_mobilefacenet_it_is_small_enough() -> None:
    network = on_trunk(trunk={"use": "mobilefacenet", "preset": "foamliu"})
    assert 1_000_000 < sum(item.numel() for item in network.parameters()) < 1_300_000


def test_weights_to_begin_with() -> None:
    network = on_trunk()
    torch.nn.init.normal_(network.head[-1].weight)
    trunk = {key: tensor + 1 for key, tensor in network.trunk.state_dict().items()}
    wrapped = {f"trunk.{key}": tensor for key, tensor in trunk.items()} | {"pyramid.weight": torch.ones(3)}
    for state in (trunk, wrapped):
        begun = on_trunk()
        load_state_dict(begun, begun.begin_state_dict(state), origin="a test")
        assert torch.equal(begun.trunk.fc.conv.weight, network.trunk.fc.conv.weight + 1)
        assert not begun.head[-1].weight.any()
    begun = on_trunk()
    load_state_dict(begun, begun.begin_state_dict(network.state_dict()), origin="a test")
    assert torch.equal(begun.head[-1].weight, network.head[-1].weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"maps": ["stage9"]}, "has no map `stage9`"),
        ({"trunk": "glasses-recogniser"}, "lacks the capability `split`"),
        ({"width": 32}, "size and width are those of the network that is built without a trunk"),
        ({"trunk": None, "maps": ["stage1"]}, "maps are a trunk's"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((OccframeError, ValueError), match=said):
        on_trunk(**options)


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "bias"), [(0.5, -2.5), (2.5, 1.0)])
def test_calibration_finds_what_made_the_labels(temperature: float, bias: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5_000, 3, generator=generator) * 3
    labels = torch.multinomial(calibrated(logits, temperature, bias).softmax(1), 1, generator=generator)[:, 0]
    found = fit_calibration(logits, labels)
    assert math.log(found[0] / temperature) == pytest.approx(0, abs=0.2)
    assert found[1] == pytest.approx(bias, abs=0.3)


def test_few_faces_without_a_mistake_make_nothing_certain() -> None:
    logits = torch.tensor([[2.0, 0, 0]] * 6 + [[0, 2.0, 0]] * 2)
    temperature, bias = fit_calibration(logits, torch.tensor([0] * 6 + [1] * 2))
    assert 0.15 < temperature < 1
    assert -2 < bias < 2


def test_glasses_of_either_kind_are_their_sum() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(3, -1)
    probability = logits.softmax(1)[0].tolist()
    found = log_likelihood(logits, torch.tensor([0, 2, EITHER])).exp().tolist()
    assert found == pytest.approx([probability[0], probability[2], probability[1] + probability[2]])


def test_calibration_error_and_f1_by_hand() -> None:
    truth = torch.tensor([True, True, False, False])
    assert expected_calibration_error(torch.tensor([1.0, 1.0, 0.0, 0.0]), truth) == 0
    # Sure and wrong every time; then 0.75 sure and right every time.
    assert expected_calibration_error(torch.tensor([0.0, 0.0, 1.0, 1.0]), truth) == 1
    assert expected_calibration_error(torch.tensor([0.75, 0.75, 0.25, 0.25]), truth) == pytest.approx(0.25)
    assert f1_score(torch.tensor([True, False, True, False]), truth) == pytest.approx(0.5)
    assert f1_score(~truth, torch.zeros(4, dtype=torch.bool)) == 0


def test_figures_of_a_perfect_recogniser() -> None:
    kinds = torch.tensor([0, 0, 1, 2, EITHER])
    logits = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9], [0, 9, 0]])
    figures = Answers(logits, kinds).figures(1.0, 0.0)
    assert (figures["f1"], figures["sunglasses_f1"], figures["accuracy"], figures["wearers"]) == (1, 1, 1, 3)
    assert figures["ece"] < 0.001
    assert Answers(logits, kinds).figures(1.0, -20.0)["recall"] == 0


# --- what is eyeglasses, what sunglasses ------------------------------------------------------------------------------


def face_with_lenses(light: float) -> np.ndarray:
    """A grey face whose eyes let ``light`` of the skin's light through."""
    image = np.full((112, 112, 3), 180, np.uint8)
    y, x = np.mgrid[:112, :112]
    for eye in TEMPLATE[:2].tolist():
        lens = ((x - eye[0]) / 15) ** 2 + ((y - eye[1]) / 12) ** 2 <= 1
        image[lens] = round(180 * light ** (1 / 2.2))
    return image


@pytest.mark.parametrize("light", [0.05, 0.3, 1.0])
def test_light_behind_lenses_is_linear_and_scales(light: float) -> None:
    image = face_with_lenses(light)
    assert light_behind_lenses(image, TEMPLATE.numpy()) == pytest.approx(light, abs=0.02)
    large = np.kron(image, np.ones((2, 2, 1), np.uint8))
    assert light_behind_lenses(large, TEMPLATE.numpy() * 2 + 0.5) == pytest.approx(light, abs=0.02)


def test_landmarks_that_tell_nothing() -> None:
    with pytest.raises(BadImage, match="landmarks unusable"):
        light_behind_lenses(face_with_lenses(1), np.full((5, 2), np.nan))
    with pytest.raises(BadImage, match="outside the picture"):
        light_behind_lenses(face_with_lenses(1), TEMPLATE.numpy() + 1000)


def test_a_column_of_true_and_false_is_told_apart_by_light() -> None:
    faces = drawn(2, 3, eyeglasses=np.array([True, True, True, False, None, True], object))
    pictures = [face_with_lenses(light) for light in (0.05, 0.4, 0.9, 1, 1, 1)]
    faces.landmarks = TEMPLATE.expand(6, 5, 2).numpy().copy()
    faces.landmarks[5] = np.nan  # an aligned crop has its landmarks where the template does
    faces.read = lambda rows: [pictures[row] for row in rows]
    assert kinds_of_glasses(faces, "eyeglasses", (0.2, 0.6)).tolist() == [2, EITHER, 1, 0, -1, 1]


def test_a_column_of_texts_is_taken_at_its_word() -> None:
    kinds = np.array(["none", "eyeglasses", "sunglasses", None], object)
    assert kinds_of_glasses(drawn(2, 2, kind=kinds), "kind", (0.2, 0.6)).tolist() == [0, 1, 2, -1]
    assert kinds_of_glasses(drawn(2, 2), None, (0.2, 0.6)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array(["none", "shades"], object), "holds `shades`"),
        (np.array([0.0, 2.5]), "neither true and false nor the names"),
        (None, "no column `kind`"),
    ],
)
def test_columns_that_say_nothing_of_glasses(values: Any, said: str) -> None:
    faces = drawn(1, 2, **({} if values is None else {"kind": values}))
    with pytest.raises(OccframeError, match=said):
        kinds_of_glasses(faces, "kind", (0.2, 0.6))


def test_synthetic_glasses_by_how_much_of_the_eyes_they_hide() -> None:
    mask = torch.zeros(4, 1, 112, 112)
    mask[1, :, 40:60, :] = 0.2
    mask[2, :, 40:60, :] = 0.55
    mask[3, :, 40:60, :] = 0.95
    batch = FaceBatch(torch.zeros(4, 3, 112, 112, dtype=torch.uint8), torch.arange(4), mask=mask)
    assert synthetic_kinds(batch, (0.45, 0.65)).tolist() == [0, 1, EITHER, 2]


@pytest.mark.parametrize(("use", "kind"), [("glasses", 1), ("sunglasses", 2)])
def test_the_suite_s_glasses_are_mostly_what_they_are_called(use: str, kind: int) -> None:
    faces = drawn(8, 4)
    occlusion = BUILD.build(parse_block(OcclusionBlock, {"use": use, "severity": [0.1, 1.0]}, BUILD))
    loader = FaceLoader(faces, height=112, width=112, batch_size=32, threads=1, seed=0, occlusion=occlusion)
    kinds = synthetic_kinds(next(iter(loader.epoch(0))), (0.45, 0.65))
    assert (kinds == kind).float().mean() > 0.6
    assert (kinds == 3 - kind).float().mean() < 0.2


# --- batches ----------------------------------------------------------------------------------------------------------


def batches(worn: bool = True) -> GlassesBatches:
    def loader(faces: Any, size: int, glasses: bool) -> FaceLoader:
        occlusion = BUILD.build(parse_block(OcclusionBlock, {"use": "sunglasses"}, BUILD)) if glasses else None
        options: Any = {"occlusion": occlusion, "occlusion_probability": 0.5, "shuffle": True, "drop_last": True}
        return FaceLoader(faces, height=112, width=112, batch_size=size, threads=1, seed=3, **options)

    wearers = loader(drawn(1, 5), 2, False) if worn else None
    return GlassesBatches(loader(drawn(3, 4), 4, True), wearers, np.array([1, 1, 2, EITHER, 1]), (0.45, 0.65))


def test_batches_go_on_where_they_were_left() -> None:
    made = batches()
    assert made.batches_per_epoch == 3
    whole = [batch for epoch in (0, 1) for batch in made.epoch(epoch)]
    again = [*made.epoch(0, 2), *made.epoch(1, 1)]
    for batch, other in zip([whole[2], *whole[4:]], again, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.identities, other.identities)
    assert all(len(batch.images) == 6 for batch in whole)
    kinds = torch.cat([batch.identities for batch in whole if batch.identities is not None]).view(-1, 6)
    assert set(kinds[:, :4].flatten().tolist()) == {0, 2}
    assert (kinds[:, 4:] > 0).all()


def test_batches_without_wearers() -> None:
    assert all(len(batch.images) == 4 for batch in batches(worn=False).epoch(0))


def test_jitter_changes_pictures_a_little_and_follows_the_generator() -> None:
    images = torch.from_numpy(np.stack([face_with_lenses(0.1)] * 3)).permute(0, 3, 1, 2)
    torch.manual_seed(1)
    first = jitter(images)
    torch.manual_seed(1)
    assert torch.equal(first, jitter(images))
    assert first.shape == images.shape
    assert (first.min() >= 0) & (first.max() <= 1)
    assert not torch.equal(first[0], first[1])
    assert (first - images.float() / 255).abs().mean() < 0.35
