"""One step of learning to recognise glasses, and what a trained recogniser is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from occframe.images import to_model_input
from occframe.training.faults import first_bad_weight
from occframe.training.recogniser import Recogniser
from occframe.types import FaceBatch
from occframe_deglass.calibration import EITHER, calibrated, expected_calibration_error, f1_score, log_likelihood

# Other detectors place landmarks a little otherwise: degrees, share of the size, share of the side.
_TURN, _SCALE, _SHIFT = 8.0, 0.1, 0.05


class RecogniserUpdate:
    """One optimiser step on one batch, for ``occframe.training.loop``. ``columns`` names the figures it returns."""

    columns = ("loss", "accuracy")
    skips_overflow = False

    def __init__(self, recogniser: Recogniser, optimiser: Optimizer) -> None:
        """recogniser: of a ``GlassesRecogniser``, in training mode. optimiser: of ``build_optimiser``."""
        self.recogniser = recogniser
        self.optimiser = optimiser

    def __call__(self, batch: FaceBatch, rate: float) -> list[Tensor]:
        """batch: on the model's device, kinds of glasses as ``identities``. rate: learning rate."""
        assert batch.identities is not None
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        logits = self.recogniser.embed(jitter(batch.images)).embedding
        loss = -log_likelihood(logits, batch.identities).mean()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        right = (logits.detach().argmax(1) > 0) == (batch.identities > 0)
        return [loss.detach(), right.float().mean()]

    def bad_weight(self) -> str | None:
        """The first weight that is not finite, by name."""
        return first_bad_weight(self.recogniser)

    def state_dict(self) -> dict[str, Any]:
        return {"recogniser": self.recogniser.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.recogniser.load_state_dict(state["recogniser"])
        self.optimiser.load_state_dict(state["optimiser"])


def jitter(images: Tensor) -> Tensor:
    """Turned, scaled, moved, relit and blurred a little, drawn from torch's generator.

    images: uint8 [B, 3, H, W]. Returns float 0..1.
    """
    count, size = len(images), images.shape[2:]
    images = images.float() / 255

    def draw(span: float) -> Tensor:
        return (torch.rand(count, device=images.device) * 2 - 1) * span

    angle, scale = draw(_TURN * torch.pi / 180), 1 + draw(_SCALE)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cos, -sin, draw(2 * _SHIFT)], 1), torch.stack([sin, cos, draw(2 * _SHIFT)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # Photographs of faces that were small.
    chosen = torch.rand(count, device=images.device) < 0.3
    if chosen.any():
        small = [int(side * (1 - 0.6 * float(torch.rand(())))) for side in size]
        shrunk = F.interpolate(images[chosen], small, mode="area")
        images[chosen] = F.interpolate(shrunk, size, mode="bilinear", align_corners=False)
    contrast, light = (1 + draw(0.3)).view(-1, 1, 1, 1), draw(0.15).view(-1, 1, 1, 1)
    gamma = torch.exp(draw(0.4)).view(-1, 1, 1, 1)
    images = images.clamp(1e-4, 1) ** gamma
    middle = images.mean((1, 2, 3), keepdim=True)
    return ((images - middle) * contrast + middle + light).clamp(0, 1)


@dataclass(frozen=True)
class Answers:
    """logits: float [N, 3]. kinds: int64 [N], what is known of each face."""

    logits: Tensor
    kinds: Tensor

    @torch.no_grad()
    @staticmethod
    def of(recogniser: nn.Module, batches: Iterable[FaceBatch], device: str) -> Answers:
        """recogniser: in evaluation mode. batches: with kinds of glasses as ``identities``."""
        logits, kinds = [], []
        for batch in batches:
            assert batch.identities is not None
            images = to_model_input(batch.images.to(device), recogniser.image_spec)  # type: ignore[arg-type]
            logits.append(recogniser(images).embedding.float().cpu())
            kinds.append(batch.identities.cpu())
        return Answers(torch.cat(logits), torch.cat(kinds))

    def figures(self, temperature: float, bias: float) -> dict[str, float]:
        """F1, precision and recall of "wears glasses"; F1 of sunglasses among the faces whose kind is known for sure;
        expected calibration error of "wears glasses", as calibrated and without."""
        probability = calibrated(self.logits, temperature, bias).softmax(1)
        wears, truth = probability[:, 0] < 0.5, self.kinds > 0
        found, hits = int(wears.sum()), int((wears & truth).sum())
        sure = self.kinds != EITHER
        dark = probability.argmax(1) == 2
        return {
            "f1": f1_score(wears, truth),
            "precision": hits / max(found, 1),
            "recall": hits / max(int(truth.sum()), 1),
            "accuracy": float((wears == truth).double().mean()),
            "sunglasses_f1": f1_score(dark[sure], self.kinds[sure] == 2),
            "ece": expected_calibration_error(1 - probability[:, 0], truth),
            "ece_uncalibrated": expected_calibration_error(1 - self.logits.softmax(1)[:, 0], truth),
            "faces": float(len(truth)),
            "wearers": float(truth.sum()),
        }
