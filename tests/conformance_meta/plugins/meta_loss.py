"""A good loss term, and one for each promise that breaks it."""

from __future__ import annotations

import threading

import torch
from torch import nn

from occframe import BackboneOutput, Config, ImageSpec, hookimpl


class NoOptions(Config):
    """Has none."""


class Good(nn.Module):
    """Cross-entropy over class centres, weighed by how much of the face is seen."""

    needs = frozenset({"identities", "mask", "extras.quality"})
    figures = ("accuracy",)

    def __init__(self, config, context):
        super().__init__()
        draw = torch.Generator().manual_seed(context.seed)
        self.centres = nn.Parameter(torch.randn(context.num_identities, context.embedding_dim, generator=draw))

    def logits(self, output):
        dtype = torch.promote_types(output.embedding.dtype, torch.float32)
        embedding = nn.functional.normalize(output.embedding.to(dtype), eps=1e-6)
        return 8 * nn.functional.linear(embedding, nn.functional.normalize(self.centres.to(dtype)))

    def forward(self, output, batch):
        with torch.autocast(output.embedding.device.type, enabled=False):
            losses = nn.functional.cross_entropy(self.logits(output), batch.identities, reduction="none")
            return (losses * (1.5 - batch.mask.mean(dim=(1, 2, 3)))).mean() + output.extras["quality"].square().mean()

    @torch.no_grad()
    def measure(self, output, batch):
        return {"accuracy": (self.logits(output).argmax(1) == batch.identities).float().mean()}


class Quality(nn.Module):
    """The backbone whose extras the terms need."""

    image_spec = ImageSpec(height=32, width=32)
    feature_info = ()
    embedding_dim = 8

    def __init__(self, config, context):
        super().__init__()
        self.head = nn.Linear(3, 8)

    def forward(self, images):
        mean = images.mean(dim=(2, 3))
        return BackboneOutput(self.head(mean), (), {"quality": mean.mean(1)})


class IsAModule(Good):
    needs = frozenset({"identity", "mask"})


class IsAFiniteScalar(Good):
    def forward(self, output, batch):
        return super().forward(output, batch).expand(2)


class NeedsWhatItDeclares(Good):
    def forward(self, output, batch):
        return super().forward(output, batch) + batch.clean.float().mean() * 0


class FiniteAtExtremes(Good):
    def logits(self, output):
        embedding = output.embedding / output.embedding.norm(dim=1, keepdim=True)
        return nn.functional.linear(embedding, self.centres)


class PermutationChangesNothing(Good):
    def forward(self, output, batch):
        return super().forward(output, batch) + output.embedding[0].sum()


class GradientIsRight(Good):
    def logits(self, output):
        found = super().logits(output)
        return found + output.embedding.sum(1, keepdim=True).detach() * torch.arange(found.shape[1])


class AutocastIsSafe(Good):
    def forward(self, output, batch):
        products = output.embedding @ self.centres.T  # in bfloat16 under autocast
        return (
            super().forward(output, batch) + (products * 1000 - (output.embedding * 1000) @ self.centres.T).abs().mean()
        )


class IsDeterministic(Good):
    def forward(self, output, batch):
        return super().forward(output, batch) * torch.rand(()).add(0.5)


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.lock = threading.Lock()


class MeasuresItsFigures(Good):
    figures = ("accuracy", "margin")


class GpuEqualsCpu(Good):
    def forward(self, output, batch):
        return super().forward(output, batch) * (2 if output.embedding.is_cuda else 1)


BROKEN = {
    "is_a_module": IsAModule,
    "is_a_finite_scalar": IsAFiniteScalar,
    "needs_what_it_declares": NeedsWhatItDeclares,
    "finite_at_extremes": FiniteAtExtremes,
    "permutation_changes_nothing": PermutationChangesNothing,
    "gradient_is_right": GradientIsRight,
    "autocast_is_safe": AutocastIsSafe,
    "is_deterministic": IsDeterministic,
    "is_picklable": IsPicklable,
    "measures_its_figures": MeasuresItsFigures,
    "gpu_equals_cpu": GpuEqualsCpu,
}


@hookimpl
def occframe_register_losses(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="cross-entropy", caps={"grad", "gpu"})


@hookimpl
def occframe_register_backbones(register):
    register("quality", Quality, config=NoOptions, summary="gives extras")
