"""A recogniser in training: its backbone with its loss terms, and one step of gradient descent on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from occframe.distributed import ALONE, Ranks, told_alike
from occframe.errors import OccframeError
from occframe.images import to_model_input
from occframe.models import LoadedModel, embed_images
from occframe.precision import ResolvedPrecision, autocast
from occframe.training.faults import first_bad_weight
from occframe.types import BackboneOutput

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from occframe.training.checkpoint import Shard
    from occframe.types import Backbone, FaceBatch, LossTerm


@dataclass(frozen=True)
class Term:
    """A loss term in the sum. name: as it is logged, unique."""

    name: str
    weight: float
    module: LossTerm


class Recogniser(nn.Module):
    """Backbone and loss terms as one module: one thing to place on a device, to save and to spread over devices.

    precision: of the backbone's forward pass; loss terms always see float32, since a margin of 0.35 under a scale of 64
    drowns in bfloat16's 8 bits. channels_last: memory layout of the convolutions. teacher: embeds each face as it was
    before occlusion, for loss terms; it does not learn and is not saved.
    """

    def __init__(
        self,
        backbone: Backbone,
        terms: Sequence[Term],
        *,
        precision: ResolvedPrecision = "fp32",
        channels_last: bool = False,
        teacher: LoadedModel | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.terms = nn.ModuleList([term.module for term in terms])  # type: ignore[misc]
        self.names = tuple(term.name for term in terms)
        self.figure_names = tuple(
            f"{term.name}.{figure}" for term in terms for figure in getattr(term.module, "figures", ())
        )
        #: Modules that stay in evaluation mode in training, see ``parts.py``.
        self.resting: list[nn.Module] = []
        self._teacher = teacher
        self.weights = tuple(term.weight for term in terms)
        self.precision = precision
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.layout)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.resting:
            module.eval()
        return self

    def forward(self, batch: FaceBatch) -> tuple[list[Tensor], list[Tensor]]:
        """The unweighted loss of every term, and the figures of ``figure_names``: float32 scalars."""
        output = self.embed(batch.images)
        if self._teacher is not None:
            seen = batch.images if batch.clean is None else batch.clean
            # Made in inference mode: only a copy may take part in a backward pass.
            batch = replace(batch, teacher=embed_images(self._teacher, seen, precision=self.precision).clone())
        losses = [self._scalar(name, term(output, batch)) for name, term in zip(self.names, self.terms, strict=True)]
        return losses, self._figures(output, batch) if self.figure_names else []

    @torch.no_grad()
    def _figures(self, output: BackboneOutput, batch: FaceBatch) -> list[Tensor]:
        terms: list[Any] = [term for term in self.terms if hasattr(term, "figures")]
        measured = [(term.figures, term.measure(output, batch)) for term in terms]
        return [figures[name].float() for names, figures in measured for name in names]

    def embed(self, images: Tensor) -> BackboneOutput:
        """images: [B, 3, H, W] RGB, uint8 0..255 or float 0..1. Embedding and extras come as float32."""
        inputs = to_model_input(images, self.backbone.image_spec).contiguous(memory_format=self.layout)
        with autocast(self.precision, inputs.device.type):
            output = self.backbone(inputs)
        extras = {key: value.float() if value.is_floating_point() else value for key, value in output.extras.items()}
        return replace(output, embedding=output.embedding.float(), extras=extras)

    def _scalar(self, name: str, loss: Tensor) -> Tensor:
        if loss.ndim:
            raise OccframeError(
                f"loss `{name}` gave a tensor {list(loss.shape)}, not a scalar",
                remedy="report this to its authors: a loss term returns its mean over the batch",
            )
        return loss


class GradientStep:
    """One optimiser step on one batch. ``columns`` names the figures a step returns."""

    def __init__(
        self, recogniser: Recogniser, optimiser: Optimizer, *, clip_norm: float | None = None, together: Ranks = ALONE
    ) -> None:
        self.recogniser = recogniser
        self.optimiser = optimiser
        self.clip_norm = clip_norm
        self.columns = (*(f"loss.{name}" for name in recogniser.names), "loss")
        if clip_norm is not None:
            self.columns += ("gradient_norm",)
        self.columns += recogniser.figure_names
        self._parameters = [parameter for parameter in recogniser.parameters() if parameter.requires_grad]
        device = self._parameters[0].device.type
        # float16 gradients underflow; bfloat16 has float32's range.
        self._scaler = torch.amp.GradScaler(device, enabled=recogniser.precision == "fp16")
        self._together = together
        self._forward = _spread(recogniser) if together.several else recogniser
        self._own: dict[str, Any] = {
            name: term
            for name, term in zip(recogniser.names, recogniser.terms, strict=True)
            if hasattr(term, "descend")
        }

    def __call__(self, batch: FaceBatch, rate: float) -> list[Tensor]:
        """batch: on the model's device. rate: learning rate. Returns detached scalars on the device, one a column."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        with record_function("forward"):
            losses, measured = self._forward(batch)
            total = reduce(add, (weight * loss for weight, loss in zip(self.recogniser.weights, losses, strict=True)))
        with record_function("backward"):
            self._scaler.scale(total).backward()
        figures = [*losses, total]
        with record_function("optimiser"):
            if self.clip_norm is not None:
                self._scaler.unscale_(self.optimiser)
                figures.append(nn.utils.clip_grad_norm_(self._parameters, self.clip_norm))
            for term in self._own.values():
                term.descend(rate, self._scaler.get_scale())
            self._scaler.step(self.optimiser)
            self._scaler.update()
            self.optimiser.zero_grad(set_to_none=True)
        told = [figure.detach() for figure in [*figures, *measured]]
        return told_alike(told, self._together)

    @property
    def skips_overflow(self) -> bool:
        """True while an infinite gradient is only a sign to scale less; such a step changes no weight."""
        return self._scaler.is_enabled() and self._scaler.get_scale() >= 1.0

    def bad_weight(self) -> str | None:
        """The first weight that is not finite, by name."""
        return first_bad_weight(self.recogniser)

    @property
    def shards(self) -> dict[str, Shard]:
        return {f"{name}.{table}": rows for name, term in self._own.items() for table, rows in term.shards.items()}

    def load_shards(self, read: Callable[[str, int, int], Tensor]) -> None:
        for name, term in self._own.items():
            term.load_shards(lambda table, first, stop, name=name: read(f"{name}.{table}", first, stop))

    def state_dict(self) -> dict[str, Any]:
        return {
            "recogniser": self.recogniser.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.recogniser.load_state_dict(state["recogniser"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])


def _spread(recogniser: Recogniser) -> nn.Module:
    """Gradients averaged over the processes as the backward pass makes them."""
    from torch.nn.parallel import DistributedDataParallel

    device = next(recogniser.parameters()).device
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a name that all versions we take understand
        return DistributedDataParallel(
            recogniser,
            device_ids=[device.index] if device.type == "cuda" else None,
            # On a CPU batch norm's statistics are each process's own; what is saved are those of process 0.
            broadcast_buffers=False,
            find_unused_parameters=True,  # a predictor without its loss term has no gradient
        )
