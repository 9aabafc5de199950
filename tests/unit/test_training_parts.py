"""Parts that learn at their own pace, a teacher, and figures beside the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError
from occframe.models import load_model, save_model
from occframe.training.optimisers import Sgd, build_optimiser
from occframe.training.parts import Part, apply_parts
from occframe.training.recogniser import GradientStep, Recogniser, Term
from occframe.types import BackboneOutput, FaceBatch
from tests.tiny import SIZE, Softmax, TinyBackbone, TinyConfig, tiny_registry

REGISTRY = tiny_registry()
BUILD = BuildContext(REGISTRY)


def batch(seed: int = 0, **changes: Tensor) -> FaceBatch:
    images = torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return FaceBatch(images, torch.arange(6), torch.arange(6) % 3, **changes)


def recogniser(*more: Term, **options: Any) -> Recogniser:
    torch.manual_seed(1)
    return Recogniser(TinyBackbone(TinyConfig()), [Term("softmax", 1.0, Softmax(8, 3)), *more], **options)


def step_of(made: Recogniser, parts: dict[str, Part], rate: float = 0.1) -> dict[str, Tensor]:
    """How far each weight and statistic went in one step, without momentum and decay."""
    factors = apply_parts(made, parts)
    made.train()
    optimiser = build_optimiser(Sgd(momentum=0, weight_decay=0), made.parameters(), factors=factors)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    torch.manual_seed(2)
    GradientStep(made, optimiser)(batch(), rate)
    return {name: value - before[name] for name, value in made.state_dict().items()}


def test_a_part_learns_at_its_factor_of_the_rate() -> None:
    plain = step_of(recogniser(), {})
    parts = {"trunk": Part(rate=0.5), "trunk.0": Part(rate=3), "losses.softmax": Part(rate=0.1)}
    moved = step_of(recogniser(), parts)
    factors = {"backbone.trunk.0": 3, "backbone.trunk.1": 0.5, "backbone.head": 1, "terms.0": 0.1}
    for name, parameter in recogniser().named_parameters():
        factor = next(value for key, value in factors.items() if name.startswith(key)) if "trunk.2" not in name else 0.5
        torch.testing.assert_close(moved[name], plain[name] * factor, rtol=1e-4, atol=1e-6)
        assert parameter.shape == moved[name].shape


def test_a_frozen_part_keeps_weights_and_statistics() -> None:
    made = recogniser()
    moved = step_of(made, {"trunk": Part(rate=0)})
    for name, change in moved.items():
        still = not change.any()
        assert still == name.startswith("backbone.trunk"), name
    assert made.training
    assert not made.backbone.trunk.training
    assert made.backbone.head.training


def test_statistics_can_be_kept_while_weights_learn() -> None:
    moved = step_of(recogniser(), {"trunk": Part(statistics="keep")})
    assert moved["backbone.trunk.0.weight"].any()
    assert moved["backbone.trunk.1.weight"].any()
    assert not moved["backbone.trunk.1.running_mean"].any()


def test_the_backbone_is_a_part_and_gives_way_to_longer_names() -> None:
    moved = step_of(recogniser(), {"backbone": Part(statistics="keep"), "head": Part(rate=0)})
    assert moved["backbone.trunk.0.weight"].any()
    assert not moved["backbone.trunk.1.running_mean"].any()
    assert not moved["backbone.head.2.weight"].any()
    assert moved["terms.0.centres.weight"].any()


@pytest.mark.parametrize(
    ("name", "remedy"), [("trnk", "did you mean `trunk`?"), ("qqq", "parts begin with: head, losses, trunk")]
)
def test_a_part_that_nothing_belongs_to_is_named(name: str, remedy: str) -> None:
    with pytest.raises(OccframeError, match=f"no weight belongs to the part `{name}`") as error:
        apply_parts(recogniser(), {name: Part()})
    assert remedy in str(error.value)


class Looks(nn.Module):
    """Reads the teacher; says how far the embedding is from it."""

    needs = frozenset({"teacher"})
    figures = ("distance",)

    def forward(self, output: BackboneOutput, seen: FaceBatch) -> Tensor:
        return (output.embedding - seen.teacher).square().mean()

    def measure(self, output: BackboneOutput, seen: FaceBatch) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled()
        return {"distance": (output.embedding - seen.teacher).norm(dim=1).max()}


def test_a_teacher_sees_the_face_before_occlusion_and_never_learns(tmp_path: Path) -> None:
    block = BackboneBlock.model_validate("tiny", context={"registry": REGISTRY})
    save_model(str(tmp_path), TinyBackbone(TinyConfig()), block)
    teacher = load_model(str(tmp_path), BUILD)
    made = recogniser(Term("looks", 1.0, Looks()), teacher=teacher).train()
    assert not any(value is weight for weight in teacher.backbone.parameters() for value in made.parameters())
    assert all("teacher" not in name for name in made.state_dict())

    occluded, clean = batch(1), batch(2).images
    seen = FaceBatch(occluded.images, occluded.index, occluded.identities, clean=clean)
    update = GradientStep(made, build_optimiser(Sgd(), made.parameters()), clip_norm=1.0)
    before = [weight.clone() for weight in teacher.backbone.parameters()]
    assert update.columns == ("loss.softmax", "loss.looks", "loss", "gradient_norm", "looks.distance")
    figures = update(seen, 0.1)
    assert len(figures) == len(update.columns)
    assert all(torch.equal(old, new) for old, new in zip(before, teacher.backbone.parameters(), strict=True))

    made.eval()
    expected = torch.nn.functional.normalize(teacher.backbone(clean.float() / 127.5 - 1).embedding)
    (_, loss), _ = made(seen)
    torch.testing.assert_close(loss, (made.embed(occluded.images).embedding - expected).square().mean())
