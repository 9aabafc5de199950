"""Margin softmax losses over class centres.

For embedding x of identity y and centre w_j of each of n identities, with cos θ_j = <x, w_j> / (|x| |w_j|):

    L = - log( exp(s ψ(cos θ_y)) / (exp(s ψ(cos θ_y)) + Σ_{j≠y} exp(s cos θ_j)) ),   averaged over the batch.

ψ is what sets the losses apart; without it this is the scaled softmax on normalised features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.errors import OccframeError
from occframe.types import BackboneOutput, FaceBatch

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_losses.configs import AdaFaceConfig, ArcFaceConfig, CosFaceConfig, MarginConfig


#: (cos θ_y of shape [B], lengths of the embeddings [B]) -> what stands in the cosines' place.
Psi = Callable[[Tensor, Tensor], Tensor]


def cosface_margin(cosine: Tensor, norms: Tensor | None = None, *, margin: float) -> Tensor:
    """cos θ - m. Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, equation 4."""
    return cosine - margin


def arcface_margin(cosine: Tensor, norms: Tensor | None = None, *, margin: float) -> Tensor:
    """cos(θ + m), and cos θ - m sin m where θ > π - m, beyond which cos(θ + m) would rise again.

    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, equation 3; the
    continuation is that of the authors' code. cosine: any shape, -1..1.
    """
    # Rounding takes a cosine beyond 1, and the root's gradient is infinite at 0: below the smallest number it is cut.
    sine = (1 - cosine.square()).clamp_min(torch.finfo(cosine.dtype).tiny).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), shifted, cosine - margin * math.sin(margin))


class MarginSoftmax(nn.Module):
    """(output, batch) -> mean loss, a scalar, float32 or wider. Owns ``centres`` [num_identities, embedding_dim].

    psi: the margin, which may be a module with a state of its own. Labels outside 0..num_identities-1 are not looked
    for.
    """

    needs = frozenset({"identities"})

    def __init__(self, *, num_identities: int, embedding_dim: int, scale: float, psi: Psi) -> None:
        super().__init__()
        self.scale = scale
        self.psi = psi
        self.centres = nn.Parameter(torch.empty(num_identities, embedding_dim))
        # Only the direction counts, but the length sets how fast it turns: as in arcface_torch.
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        labels = batch.identities
        assert labels is not None
        # A scale of 64 turns half precision's last digit of a cosine into a quarter of a logit: float32 at least here.
        with torch.autocast(output.embedding.device.type, enabled=False):
            dtype = torch.promote_types(output.embedding.dtype, torch.float32)
            embedding = output.embedding.to(dtype)
            norms = embedding.norm(dim=1)
            logits = F.linear(F.normalize(embedding), F.normalize(self.centres.to(dtype)))
            own = torch.arange(len(labels), device=labels.device), labels
            # In place: at a million identities every copy of the logits is a gigabyte. Plain indexing, because gather
            # keeps its input for the backward pass and so forbids that.
            logits = logits.index_put_(own, self.psi(logits[own], norms)).mul_(self.scale)
            return F.cross_entropy(logits, labels)


def build_cosface(config: CosFaceConfig, context: BuildContext) -> nn.Module:
    return _build("cosface", config, partial(cosface_margin, margin=config.margin), context)


def build_arcface(config: ArcFaceConfig, context: BuildContext) -> nn.Module:
    return _build("arcface", config, partial(arcface_margin, margin=config.margin), context)


def build_adaface(config: AdaFaceConfig, context: BuildContext) -> nn.Module:
    from occframe_losses.adaface import AdaFaceMargin

    psi = AdaFaceMargin(margin=config.margin, concentration=config.concentration, momentum=config.momentum)
    return _build("adaface", config, psi, context)


def _build(name: str, config: MarginConfig, psi: Psi, context: BuildContext) -> nn.Module:
    if context.num_identities is None or context.embedding_dim is None:
        raise OccframeError(
            f"`{name}` needs the number of training identities and the embedding's length to make its class centres",
            remedy="use it in a step that trains on identities; in code, build it with num_identities, embedding_dim",
        )
    identities, dim = context.num_identities, context.embedding_dim
    if config.sampled is not None:
        from occframe_losses.sampled import SampledMarginSoftmax

        return SampledMarginSoftmax(
            num_identities=identities,
            embedding_dim=dim,
            scale=config.scale,
            psi=psi,
            sample_rate=config.sampled.rate,
            momentum=config.sampled.momentum,
            weight_decay=config.sampled.weight_decay,
            seed=context.seed,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return MarginSoftmax(num_identities=identities, embedding_dim=dim, scale=config.scale, psi=psi)
