"""Adversarial training without a data set: its errors, the order of its updates, its average, what stops it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from occframe.errors import OccframeError
from occframe.generators import from_generator_output, to_generator_input
from occframe.training.adversarial import AdversarialStep, Adversaries, stop_on_collapse
from occframe.training.adversarial_batches import GeneratorBatch, Wearers, eye_region
from occframe.training.adversarial_configs import AdversarialError, FeatureError, IdentityError, PixelError
from occframe.training.adversarial_losses import discriminative_loss, feature_error, generative_loss, pixel_error
from occframe.training.adversarial_watch import training_page
from occframe.training.frozen_features import shaken
from occframe.training.optimisers import Adam
from occframe.types import FaceBatch, GeneratorOutput, ImageSpec

SIDE = 8


class Shift(nn.Module):
    """The smallest generator: one 1 x 1 convolution with batch norm."""

    image_spec = ImageSpec(SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, images: Tensor) -> GeneratorOutput:
        return GeneratorOutput(torch.tanh(self.layers(images)))

    def discriminator(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3, 1, 1))


def networks(decay: float = 0.9) -> Adversaries:
    torch.manual_seed(2)
    return Adversaries(Shift(), decay=decay).train()


def step(adversaries: Adversaries, features: Callable[[Tensor], Tensor] | None = None, **options) -> AdversarialStep:
    errors = {
        "adversarial": AdversarialError(),
        "feature": FeatureError(weight=10 if features else 0),
        "pixel": PixelError(),
        "identity": IdentityError(),
    }
    return AdversarialStep(adversaries, features, optimiser=Adam(lr=0.01), precision="fp32", **(errors | options))


def batch(count: int = 8, seed: int = 0) -> GeneratorBatch:
    draw = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=draw)
    mask = (torch.rand(count, 1, SIDE, SIDE, generator=draw) > 0.7).float()
    return GeneratorBatch((clean * (1 - mask)).byte(), clean, clean, mask)


# --- the errors -------------------------------------------------------------------------------------------------------


def test_least_squares_as_published():
    real, made = torch.tensor([0.8, 1.2]), torch.tensor([0.5, -0.5])
    assert discriminative_loss(real, made, "least-squares") == pytest.approx(0.5 * 0.04 + 0.5 * 0.25)
    assert generative_loss(made, "least-squares") == pytest.approx((0.25 + 2.25) / 2)


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_cross_entropy_of_the_sigmoid(real, made):
    expected = (nn.functional.softplus(torch.tensor(-real)) + nn.functional.softplus(torch.tensor(made))) / 2
    found = discriminative_loss(torch.tensor([real]), torch.tensor([made]), "bce")
    assert float(found) == pytest.approx(float(expected), abs=1e-5)
    assert float(generative_loss(torch.tensor([made]), "bce")) == pytest.approx(
        float(nn.functional.softplus(torch.tensor(-made))), abs=1e-5
    )


@pytest.mark.parametrize("kind", ["least-squares", "bce"])
def test_who_judges_well_has_the_smaller_loss(kind):
    high, low = torch.tensor([4.0 if kind == "bce" else 1.0]), torch.tensor([-4.0 if kind == "bce" else 0.0])
    assert discriminative_loss(high, low, kind) < 0.02 < discriminative_loss(low, high, kind)
    assert generative_loss(high, kind) < 0.02 < generative_loss(low, kind)


@settings(deadline=None)
@given(st.floats(0, 5), st.integers(0, 100))
def test_pixels_under_the_mask_count_as_much_as_asked(inside, seed):
    item = batch(2, seed)
    made, reference = item.images.float(), item.reference.float()
    difference = (made - reference).abs()
    outside, under = difference * (1 - item.mask), difference * item.mask
    expected = (outside + inside * under).mean()
    assert float(pixel_error(made, reference, item.mask, inside)) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)
    if inside == 0:
        torch.testing.assert_close(pixel_error(made, reference, item.mask, 0), outside.mean())


def test_features_of_the_same_face_have_no_error():
    features = torch.randn(5, 16)
    assert float(feature_error(features, 3 * features)) == pytest.approx(0, abs=1e-6)
    assert float(feature_error(features, -features)) == pytest.approx(2, abs=1e-6)
    assert float(feature_error(torch.zeros(2, 4), torch.ones(2, 4))) == 1


# --- one step ---------------------------------------------------------------------------------------------------------


def test_the_discriminator_moves_first_and_the_generator_faces_the_new_one():
    adversaries = networks()
    seen: list[tuple[str, Tensor, bool]] = []
    judge = adversaries.discriminator[0]

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append(("score", judge.weight.detach().clone(), inputs[0].requires_grad))

    adversaries.discriminator.register_forward_hook(note)
    before = judge.weight.detach().clone()
    generator = {name: value.clone() for name, value in adversaries.generator.state_dict().items()}
    step(adversaries)(batch(), 0.01)
    first, second = seen
    assert torch.equal(first[1], before)
    assert not first[2]  # the judge's own update does not reach the generator
    assert torch.equal(second[1], judge.weight)
    assert not torch.equal(second[1], before)
    assert second[2]
    assert not torch.equal(adversaries.generator.layers[0].weight, generator["layers.0.weight"])


def test_the_generators_update_leaves_the_judge_alone():
    adversaries = networks()
    update = step(adversaries)
    update(batch(), 0.01)
    assert all(parameter.grad is None for parameter in adversaries.parameters())
    assert all(parameter.requires_grad for parameter in adversaries.discriminator.parameters())


def test_figures_are_the_terms_and_their_weighted_sum():
    update = step(networks(), features=lambda images: images.mean(dim=(2, 3)))
    figures = dict(zip(update.columns, update(batch(), 0.01), strict=True))
    weighted = 10 * (figures["loss.feature"] + figures["loss.pixel"] + figures["loss.identity"])
    assert float(figures["loss"]) == pytest.approx(float(figures["loss.generative"] + weighted), rel=1e-5)
    assert not any(figure.requires_grad for figure in figures.values())


def test_wearers_count_by_who_they_are_and_by_what_changed_elsewhere():
    def features(images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) - 0.4

    adversaries = networks()
    worn = batch(4, seed=5)
    eyes = torch.zeros(4, 1, SIDE, SIDE)
    eyes[:, :, 2:5] = 1
    wanted = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    plain = batch()
    update = step(adversaries, features, wearers=3.0)
    # As training sees it: all faces of an update in one pass.
    given, real, others = (
        to_generator_input(item, Shift.image_spec) for item in (plain.images, plain.real, worn.images)
    )
    with torch.no_grad():
        made = deepcopy(adversaries.generator)(torch.cat([given, real[:2], others])).images[10:]
    seen = features(from_generator_output(made, Shift.image_spec))
    expected = feature_error(seen, wanted) + pixel_error(made, others, eyes, inside=0)
    figures = dict(
        zip(update.columns, update(replace(plain, wearers=Wearers(worn.images, wanted, eyes)), 0.01), strict=True)
    )
    assert float(figures["loss.wearers"]) == pytest.approx(float(expected), rel=1e-4)
    others_sum = 10 * (figures["loss.feature"] + figures["loss.pixel"] + figures["loss.identity"])
    total = figures["loss.generative"] + others_sum + 3 * figures["loss.wearers"]
    assert float(figures["loss"]) == pytest.approx(float(total), rel=1e-5)


def test_wearers_are_learnt_from():
    worn, wanted = batch(8, seed=5).images, torch.tensor([[1.0, 0.0, 0.0]]).expand(8, 3)
    wearers = Wearers(worn, wanted, torch.ones(8, 1, SIDE, SIDE))
    silent = {
        "adversarial": AdversarialError(weight=0),
        "feature": FeatureError(weight=0),
        "identity": IdentityError(weight=0),
    }
    update = step(
        networks(), lambda images: images.mean(dim=(2, 3)) - 0.4, wearers=1.0, pixel=PixelError(weight=0), **silent
    )
    losses = [float(update(replace(batch(seed=number), wearers=wearers), 0.05)[5]) for number in range(40)]
    assert update.columns[5] == "loss.wearers"
    assert losses[-1] < 0.5 * losses[0]


def test_terms_without_a_weight_are_not_computed():
    def never(images: Tensor) -> Tensor:
        raise AssertionError("asked for features")

    adversaries = networks()
    adversaries.discriminator.register_forward_hook(lambda *_: pytest.fail("asked for a score"))
    update = step(
        adversaries,
        never,
        adversarial=AdversarialError(weight=0),
        feature=FeatureError(weight=0),
        identity=IdentityError(weight=0),
    )
    figures = dict(zip(update.columns, update(batch(), 0.01), strict=True))
    assert float(figures["loss"]) == pytest.approx(10 * float(figures["loss.pixel"]))
    assert float(figures["loss.identity"]) == 0


def test_a_small_problem_is_learnt():
    update = step(networks(), adversarial=AdversarialError(weight=0.1))
    losses = [float(update(batch(16, seed), 0.02)[3]) for seed in range(60)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_frozen_recogniser_reaches_the_generator_through_pixels():
    adversaries = networks()
    nothing = {"adversarial": AdversarialError(weight=0), "pixel": PixelError(weight=0)}
    weight = adversaries.generator.layers[0].weight.detach().clone()
    step(adversaries, lambda images: images.flatten(1), identity=IdentityError(weight=0), **nothing)(batch(), 0.01)
    assert not torch.equal(adversaries.generator.layers[0].weight, weight)


def test_the_recogniser_looks_at_a_share_of_the_batch():
    seen = []

    def features(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.mean(dim=(2, 3))

    step(networks(), features, feature=FeatureError(share=0.25))(batch(8), 0.01)
    assert seen == [2, 2]


def test_the_average_follows_weights_and_statistics():
    adversaries = networks(decay=0.5)
    update = step(adversaries)
    expected = {name: value.clone() for name, value in adversaries.average.state_dict().items()}
    for number in range(1, 13):
        update(batch(seed=number), 0.01)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, value in adversaries.generator.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    for name, value in adversaries.average.state_dict().items():
        torch.testing.assert_close(value, expected[name].to(value.dtype))
    assert not adversaries.average.training


def test_a_step_goes_on_from_a_saved_state_bit_by_bit():
    whole, halves = step(networks()), step(networks())
    for number in range(6):
        whole(batch(seed=number), 0.01)
    for number in range(3):
        halves(batch(seed=number), 0.01)
    state = halves.state_dict()
    resumed = step(Adversaries(Shift(), decay=0.9).train())
    resumed.load_state_dict(state)
    for number in range(3, 6):
        resumed(batch(seed=number), 0.01)
    for (name, value), other in zip(
        whole.networks.state_dict().items(), resumed.networks.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


# --- what stops it, what shows it -------------------------------------------------------------------------------------


def test_a_collapse_is_told_with_what_to_do():
    figures = {"step": 300, "variety": 0.02, "score.real": 1.0, "score.made": 0.0, "loss.discriminative": 0.2}
    with pytest.raises(OccframeError, match=r"collapsed: by step 300 its pictures vary 0\.020 times") as error:
        stop_on_collapse(figures, 1000)
    assert "spectral_norm" in error.value.remedy
    stop_on_collapse(figures | {"variety": 0.9}, 1000)
    with pytest.raises(
        OccframeError, match=r"discriminator ran away: by step 300 its loss is 620, .* real faces 1, made"
    ):
        stop_on_collapse(figures | {"variety": 0.9, "loss.discriminative": 620.1}, 1000)
    stop_on_collapse(figures | {"step": 90}, 1000)  # still beginning


def test_variety_is_one_for_a_network_that_changes_nothing_and_nothing_for_a_grey_one():
    class Fixed(Shift):
        def forward(self, images: Tensor) -> GeneratorOutput:
            return GeneratorOutput(images * self.factor + 0 * self.layers(images))

    for factor in (0.0, 1.0):
        generator = Fixed()
        generator.factor = factor
        update = step(Adversaries(generator, decay=0.9).train())
        assert float(update(batch(), 0.01)[-1]) == pytest.approx(factor, abs=1e-6)


def test_a_weight_that_is_no_number_is_named():
    update = step(networks())
    assert update.bad_weight() is None
    update.networks.generator.layers[0].bias.data[1] = float("nan")
    assert update.bad_weight() == "generator.layers.0.bias"


def test_the_eye_region_is_where_glasses_sit():
    images = torch.zeros(2, 3, 112, 112, dtype=torch.uint8)
    region = eye_region(FaceBatch(images, torch.arange(2)))
    assert region.shape == (2, 1, 112, 112)
    assert region[:, 0, 51, 38].all()  # an eye of the template
    assert region[:, 0, 51, 73].all()
    assert not region[:, 0, 92].any()  # the mouth
    assert not region[:, 0, 20].any()  # the forehead
    moved = torch.tensor([[48.0, 61], [84, 61], [66, 82], [51, 102], [81, 102]]).expand(2, 5, 2)
    assert eye_region(FaceBatch(images, torch.arange(2), landmarks=moved))[0, 0, :40].sum() == 0


def test_the_page_shows_every_figure_and_stops_asking_when_done():
    lines = [{"kind": "steps", "step": at, "loss": 1 / at, "<b>": 2.0, "seconds": 3.0} for at in (10, 20, 30)]
    page = training_page(lines, b"jpeg", 30, 60)
    assert 'http-equiv="refresh"' in page
    assert "data:image/jpeg;base64,anBlZw==" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "0.0,0.0 150.0,90.0 300.0,120.0" in page
    assert "seconds" not in page
    assert "refresh" not in training_page(lines, None, 60, 60)


# --- what the recogniser is shown ------------------------------------------------------------------------------------


def test_a_picture_and_its_reference_are_shaken_alike_and_no_two_faces():
    torch.manual_seed(0)
    face = torch.rand(1, 3, SIDE, SIDE).expand(4, -1, -1, -1)
    before, after = shaken(torch.cat([face, face]), 0.2, groups=2).chunk(2)
    assert torch.equal(before, after)
    assert len({tuple(picture.flatten().tolist()) for picture in before}) == 4
    assert (before.amin(), before.amax()) >= (face.amin(), face.amin())
    assert float((before - face).abs().mean()) > 0.01
    assert shaken(face, 0.0) is face


def test_shaking_moves_as_far_as_it_says():
    torch.manual_seed(1)
    images = torch.zeros(200, 1, 65, 65)
    images[:, :, 32, 32] = 1
    seen = shaken(images, 0.1)
    at = seen.flatten(2).argmax(dim=2).squeeze(1)
    away = torch.stack([at // 65 - 32, at % 65 - 32]).abs()
    assert 2 <= away.max() <= 4  # a tenth of half of 65 pixels, and the zoom of that


def test_patterns_of_single_pixels_gain_less_when_shaken():
    """One pixel in two, as a network makes them to please a recogniser whose first step skips every other."""
    torch.manual_seed(2)
    pattern = torch.zeros(50, 3, 32, 32)
    pattern[..., ::2, ::2] = 1

    def skipped(images: Tensor) -> Tensor:
        return images[..., ::2, ::2].mean()

    assert skipped(pattern) == 1
    assert skipped(shaken(pattern, 0.06)) < 0.5
