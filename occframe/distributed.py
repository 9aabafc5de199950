"""Several processes that train one network: which of them this one is, and what they tell each other.

torchrun starts them (``occframe run`` calls it where the pipeline says ``engine: {processes: 2}``; on several hosts it
is called by hand or by SLURM) and stops all of them when one dies. Process 0 runs the pipeline and writes; the others
follow it into the steps that are made for several.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

#: Followers wait for process 0 through steps that are not theirs, for days if they must.
_PATIENCE = timedelta(days=30)
#: Of one exchange within a step that all of them take part in.
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """rank: number of this process, 0..count-1. count: of processes. local: number on this host."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def several(self) -> bool:
        return self.count > 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0


ALONE = Ranks()


def ranks() -> Ranks:
    """As torchrun says in the environment; the only one where it says nothing."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if any(name not in os.environ for name in names):
        return ALONE
    rank, count, local = (int(os.environ[name]) for name in names)
    return Ranks(rank, count, local)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Connect this process with the others, where there are any, for as long as the block lasts."""
    which = ranks()
    if not which.several:
        yield which
        return
    import torch
    import torch.distributed as dist

    # One group for both kinds of tensors; NCCL is asked for only where it can work.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    global _control
    _control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield which
        # Not after an error: NCCL waits here for processes that wait for this one, and nobody is ever told.
        dist.destroy_process_group()
    finally:
        _control = None


#: The group of patient messages; like torch's own groups it belongs to the process.
_control: Any = None


def tell(value: T | None) -> T | None:
    """What process 0 gives, in every process."""
    if not ranks().several:
        return value
    import torch.distributed as dist

    held = [value]
    dist.broadcast_object_list(held, src=0, group=_control)
    return held[0]


def gather(value: T) -> list[T]:
    """What every process gives, in every process, by rank."""
    import torch.distributed as dist

    held: list[Any] = [None] * ranks().count
    dist.all_gather_object(held, value, group=_control)
    return held


def highest(value: int) -> int:
    """The highest of what the processes give, in each."""
    import torch
    import torch.distributed as dist

    held = torch.tensor(value)
    dist.all_reduce(held, dist.ReduceOp.MAX, group=_control)
    return int(held)


def mean(values: Tensor) -> Tensor:
    """Elementwise over the processes, in place. values: on the device of the training."""
    import torch.distributed as dist

    dist.all_reduce(values)
    return values.div_(ranks().count)


def told_alike(figures: list[Tensor], together: Ranks) -> list[Tensor]:
    """Scalars that a step tells: the means of what the processes found, where there are several."""
    import torch

    return list(mean(torch.stack(figures))) if together.several else figures


def mean_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Of each parameter that has one, over the processes, in place: all in one exchange, after the backward pass."""
    import torch

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    means = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(means, [gradient.numel() for gradient in gradients])
    shaped = [part.view(gradient.shape) for gradient, part in zip(gradients, parts, strict=True)]
    torch._foreach_copy_(gradients, shaped)


def agree(module: nn.Module) -> None:
    """Give every process the weights of process 0."""
    import torch.distributed as dist

    for value in module.state_dict().values():
        held = value.contiguous()  # a view with gaps would be sent with what lies in them, or refused
        dist.broadcast(held, src=0)
        if held is not value:
            value.copy_(held)
