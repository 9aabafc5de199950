"""What becomes of faces with and without glasses: bypass, removal and every way back to the original."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from occframe.errors import OccframeError
from occframe.generators import LoadedGenerator
from occframe.models import LoadedModel
from occframe.removal import Remover, fit_faces
from occframe.types import BackboneOutput, GeneratorOutput, ImageSpec

SIZE = 8
SPEC = ImageSpec(height=SIZE, width=SIZE)
#: A face says in the first row of its pixels (255 or 0) what it is and what the generator makes of it.
GLASSES, DARK, STUBBORN, BROKEN, STRANGER = range(5)


class TellsGlasses(nn.Module):
    columns = {"glasses": "float64", "sunglasses": "float64"}  # noqa: RUF012

    def forward(self, images: Tensor) -> BackboneOutput:
        return BackboneOutput((images[:, 0, 0, :3] + 1) / 2)

    def describe(self, output: BackboneOutput) -> dict[str, Tensor]:
        return {"glasses": output.embedding[:, GLASSES], "sunglasses": output.embedding[:, DARK]}


class Pixels(nn.Module):
    def forward(self, images: Tensor) -> BackboneOutput:
        return BackboneOutput(images[:, :, 1:].flatten(1))


class Remove(nn.Module):
    calls = 0

    def forward(self, images: Tensor) -> GeneratorOutput:
        self.calls += len(images)
        made = images.clone()
        marks = images[:, 0, 0] > 0
        made[~marks[:, STUBBORN], :, 0, GLASSES] = -1
        made[:, :, 4] = 0.5
        made[marks[:, BROKEN], 0, 2, 2] = float("nan")
        made[marks[:, STRANGER], :, 1:] *= -1
        return GeneratorOutput(made)


def faces(*marks: tuple[int, ...]) -> Tensor:
    images = torch.randint(0, 256, (len(marks), 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).byte()
    images[:, :, 0] = 0
    for image, set_ in zip(images, marks, strict=True):
        image[:, 0, list(set_)] = 255
    return images


def model(network: nn.Module) -> LoadedModel:
    unused: Any = type("Block", (), {"use": "fake"})()
    return LoadedModel(network, SPEC, 3, "0" * 64, unused, "cpu", unused)


@pytest.fixture
def remover() -> Remover:
    unused: Any = type("Block", (), {"use": "somebody:remove"})()
    generator = LoadedGenerator(Remove(), SPEC, "1" * 64, unused, "cpu", unused)
    return Remover(generator, model(TellsGlasses()), model(Pixels()), precision="fp32")


def test_every_outcome(remover: Remover) -> None:
    images = faces((), (GLASSES,), (GLASSES, STUBBORN), (GLASSES, BROKEN), (GLASSES, STRANGER), (GLASSES, DARK))
    before = images.clone()
    done = remover(images)
    assert done.outcomes == ["no glasses", "removed", "still glasses", "not finite", "identity lost", "removed"]
    assert done.synthesised == [False, True, False, False, False, True]
    assert torch.equal(images, before)
    for row, outcome in enumerate(done.outcomes):
        assert torch.equal(done.images[row], images[row]) == (outcome != "removed")
    assert (done.images[1, :, 4] == 191).all()
    assert done.glasses.tolist() == [0, 1, 1, 1, 1, 1]
    assert done.identity[0].isnan()
    assert done.identity[1] > 0.5
    assert done.identity[4] < 0


def test_sunglasses_are_refused_only_where_that_is_asked(remover: Remover) -> None:
    images = faces((GLASSES, DARK), (GLASSES,))
    assert remover(images).outcomes == ["removed", "removed"]
    done = replace(remover, refuse_sunglasses=True)(images)
    assert done.outcomes == ["refused sunglasses", "removed"]
    assert torch.equal(done.images[0], images[0])


def test_faces_without_glasses_never_reach_the_generator(remover: Remover) -> None:
    images = faces((), (DARK,), ())
    done = remover(images)
    assert torch.equal(done.images, images)
    assert remover.generator.network.calls == 0
    assert set(done.outcomes) == {"no glasses"}


def test_without_a_recogniser_every_face_goes_through(remover: Remover) -> None:
    done = replace(remover, recogniser=None, identity=None)(faces((), (GLASSES, STUBBORN), (STRANGER,)))
    assert set(done.outcomes) == {"removed"}
    assert done.glasses.isnan().all()
    assert done.identity.isnan().all()


def test_an_image_does_not_depend_on_its_batch(remover: Remover) -> None:
    images = faces((GLASSES,), (), (GLASSES, BROKEN), (GLASSES, DARK))
    together = remover(images)
    alone = [remover(images[row : row + 1]) for row in range(4)]
    assert torch.equal(together.images, torch.cat([done.images for done in alone]))
    assert together.outcomes == [outcome for done in alone for outcome in done.outcomes]


def test_the_treatment_names_what_decides(remover: Remover) -> None:
    assert remover.treatment == replace(remover, precision="auto").treatment
    assert remover.treatment.startswith("remove-")
    others = [
        replace(remover, threshold=0.6),
        replace(remover, refuse_sunglasses=True),
        replace(remover, recogniser=None),
        replace(remover, generator=replace(remover.generator, fingerprint="2" * 64)),
    ]
    assert len({remover.treatment, *(other.treatment for other in others)}) == 5


def test_a_model_that_says_nothing_of_glasses(remover: Remover) -> None:
    with pytest.raises(OccframeError, match="does not say whether a face wears glasses") as caught:
        replace(remover, recogniser=model(Pixels()))
    assert "train_glasses_recogniser" in str(caught.value)


@pytest.mark.parametrize("size", [(112, 96), (224, 224), (100, 141), (112, 112)])
def test_faces_in_another_size_keep_the_template_in_place(size: tuple[int, int]) -> None:
    """A bright spot where the template has the nose is there in the other size too."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    scale = height / 112
    at_y, at_x = 71.7 * scale, width / 2
    spot = 255 * torch.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * (4 * scale) ** 2))
    fitted = fit_faces(spot.expand(1, 3, -1, -1).byte(), ImageSpec())
    assert fitted.shape == (1, 3, 112, 112)
    assert fitted.dtype == torch.uint8
    weight = fitted[0, 0].float()
    assert float((weight.sum(1) * torch.arange(112)).sum() / weight.sum()) == pytest.approx(71.5, abs=0.6)
    assert float((weight.sum(0) * torch.arange(112)).sum() / weight.sum()) == pytest.approx(55.75, abs=0.6)
