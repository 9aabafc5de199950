"""Margin softmax over a sample of the class centres, which lie spread over the processes of a training.

An, Zhu, Gao, Xiao, Zhao, Feng, Wu, Qin, Zhang, Zhang, Fu, "Partial FC: Training 10 Million Identities on a Single
Machine", ICCV workshops 2021: of the other identities a random share per step is enough, and neither logits nor
gradients of the rest are ever made. With a share of 1 and one process this is ``MarginSoftmax``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.distributed import Ranks, ranks
from occframe.random import derive_seed
from occframe.types import BackboneOutput, FaceBatch
from occframe_losses.margin import Psi

_ROWS = 1 << 16  # initialised at once: each such block has a seed of its own, so that any process can make it


class SampledMarginSoftmax(nn.Module):
    """(output, batch) -> mean loss over the batches of all processes, a scalar, float32 or wider.

    sample_rate: share of the centres of each process that a step sees, those of the batch's identities always among
    them. The centres are no parameters: ``descend`` moves those that were seen, by SGD with ``momentum`` and
    ``weight_decay`` (rows that were not seen keep their velocity). shards: what a checkpoint keeps of them.
    """

    needs = frozenset({"identities"})

    steps: Tensor

    def __init__(
        self,
        *,
        num_identities: int,
        embedding_dim: int,
        scale: float,
        psi: Psi,
        sample_rate: float,
        momentum: float,
        weight_decay: float,
        seed: int,
        which: Ranks | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.psi = psi
        self.sample_rate = sample_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.seed = seed
        self.which = which or ranks()
        self.num_identities = num_identities
        self.first, self.stop = part_of(num_identities, self.which)
        self.centres = _begin(self.first, self.stop, embedding_dim, seed)
        self.velocity = torch.zeros_like(self.centres)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._seen: tuple[Tensor, Tensor] | None = None

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> SampledMarginSoftmax:
        super()._apply(function, recurse)
        self.centres, self.velocity = function(self.centres), function(self.velocity)
        return self

    def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
        assert batch.identities is not None
        with torch.autocast(output.embedding.device.type, enabled=False):
            embedding = output.embedding.to(torch.promote_types(output.embedding.dtype, torch.float32))
            labels = batch.identities
            if self.which.several:
                embedding, labels = _GatherRows.apply(embedding, self.which), _gather(labels, self.which)
            norms = embedding.norm(dim=1)
            here = (labels >= self.first) & (labels < self.stop)
            index, own = self._sample(labels[here] - self.first)
            seen = self.centres[index].to(embedding.dtype).requires_grad_(torch.is_grad_enabled())
            logits = F.linear(F.normalize(embedding), F.normalize(seen))
            rows = here.nonzero()[:, 0]
            logits = logits.index_put_((rows, own), self.psi(logits[rows, own], norms[rows])).mul_(self.scale)
            if self.training and torch.is_grad_enabled():
                self._seen = (index, seen)
            target = torch.full_like(labels, -1).index_put_((rows,), own)
            return _SpreadCrossEntropy.apply(logits, target, self.which)

    @torch.no_grad()
    def _sample(self, positives: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the centres to see, in order, and where among them each of ``positives`` is."""
        count = len(self.centres)
        wanted = max(1, round(self.sample_rate * count))
        known = positives.unique()
        if wanted >= count or not self.training:
            return torch.arange(count, device=positives.device), positives
        if len(known) < wanted:
            draw = torch.Generator(positives.device).manual_seed(self._draw_seed())
            score = torch.rand(count, generator=draw, device=positives.device)
            score[known] = 2.0
            known = score.topk(wanted).indices.sort().values
        return known, torch.searchsorted(known, positives)

    def _draw_seed(self) -> int:
        """Of this step and this process; counted, so that a training that goes on draws what it would have drawn."""
        self.steps += 1
        return derive_seed(self.seed, "sample", int(self.steps), self.which.rank)

    @torch.no_grad()
    def descend(self, rate: float, scale: float = 1.0) -> None:
        """After a backward pass: one SGD step on the centres it saw. scale: what the loss was multiplied by.

        A gradient that is not finite, as a scaled one may be, changes nothing.
        """
        if self._seen is None:
            return
        index, seen = self._seen
        self._seen = None
        if seen.grad is None or not bool(seen.grad.isfinite().all()):
            return
        # Every process made the loss of the whole batch, so that the gradient here is whole too.
        gradient = (seen.grad / scale).to(self.centres.dtype).add_(seen.to(self.centres.dtype), alpha=self.weight_decay)
        velocity = self.velocity[index].mul_(self.momentum).add_(gradient)
        self.velocity[index] = velocity
        self.centres[index] = self.centres[index].sub_(velocity, alpha=rate)

    @property
    def shards(self) -> Mapping[str, tuple[int, int, Tensor]]:
        """name -> (first row, rows in all processes together, the rows of this one)."""
        return {
            "centres": (self.first, self.num_identities, self.centres),
            "velocity": (self.first, self.num_identities, self.velocity),
        }

    @torch.no_grad()
    def load_shards(self, read: Callable[[str, int, int], Tensor]) -> None:
        """read: (name, first row, stop) -> rows, whichever processes wrote them."""
        for name in self.shards:
            getattr(self, name).copy_(read(name, self.first, self.stop))


def part_of(rows: int, which: Ranks) -> tuple[int, int]:
    """First row and stop of what this process holds: parts of one size, or one less."""
    return rows * which.rank // which.count, rows * (which.rank + 1) // which.count


def _begin(first: int, stop: int, dim: int, seed: int) -> Tensor:
    """Rows ``first`` to ``stop`` of the centres as training begins: the same whatever the number of processes."""
    centres = torch.empty(stop - first, dim)
    for block in range(first // _ROWS, -(-stop // _ROWS)):
        draw = torch.Generator().manual_seed(derive_seed(seed, "centres", block))
        rows = torch.empty(_ROWS, dim).normal_(std=0.01, generator=draw)
        low, high = max(first, block * _ROWS), min(stop, (block + 1) * _ROWS)
        centres[low - first : high - first] = rows[low - block * _ROWS : high - block * _ROWS]
    return centres


def _gather(rows: Tensor, which: Ranks) -> Tensor:
    parts = [torch.empty_like(rows) for _ in range(which.count)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _GatherRows(torch.autograd.Function):
    """Rows of all processes, one below the other. Each process has only its own centres' part of the gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, which: Ranks) -> Tensor:
        ctx.which, ctx.rows = which, len(rows)
        return _gather(rows, which)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        start = ctx.which.rank * ctx.rows
        # Gradients of the network are averaged over processes afterwards, which divides this sum by their number.
        return grad[start : start + ctx.rows] * ctx.which.count, None


class _SpreadCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of softmax over logits whose columns lie in several processes.

    logits: [B, columns of this process], overwritten. target: [B] int64, the column of the true class, -1 where it lies
    elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, which: Ranks) -> Tensor:
        highest = logits.max(dim=1, keepdim=True).values
        if which.several:
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        here = (target >= 0).nonzero()[:, 0]
        own = torch.zeros(len(logits), dtype=logits.dtype, device=logits.device)
        own[here] = logits[here, target[here]] - highest[here, 0]
        chances = logits.detach().sub_(highest).exp_()
        sums = chances.sum(dim=1, keepdim=True)
        if which.several:
            dist.all_reduce(sums)
            dist.all_reduce(own)
        chances.div_(sums)
        ctx.save_for_backward(chances, here, target)
        return (sums[:, 0].log() - own).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        chances, here, target = ctx.saved_tensors
        # In place: a second matrix of this size is what the sample was drawn to avoid. A second backward pass would
        # find it changed, and says so.
        chances[here, target[here]] -= 1
        return chances.mul_(grads[0] / len(chances)), None, None
