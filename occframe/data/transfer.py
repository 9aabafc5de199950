"""Batches from the host to the device, one ahead of the computation that uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.profiler import record_function

#: A frozen dataclass of tensors, or None.
Batch = TypeVar("Batch", bound=Any)
Item = TypeVar("Item")
Result = TypeVar("Result")


def moved(batch: Batch, device: torch.device) -> Batch:
    """Its tensors on ``device``; one that stands under two names stays one. From pinned memory nobody waits for it."""
    with record_function("transfer"):
        return _each(batch, lambda tensor: tensor.to(device, non_blocking=True))


def pinned(batch: Batch) -> Batch:
    """Its tensors, which lie on the CPU, copied to memory that a CUDA device reads by itself."""
    return _each(batch, _pinned)


def prepared(
    items: Generator[Item, None, None], work: Callable[[Item], Batch], device: torch.device
) -> Generator[Batch, None, None]:
    """``work`` of each item, which gives a batch on ``device``; on CUDA in a thread and a stream of their own, ahead of
    the consumer, so that neither transfer nor augmentation waits for the step before."""
    if device.type != "cuda":
        with closing(items):
            yield from map(work, items)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def on_stream(item: Item) -> tuple[Batch, torch.Event]:
        with torch.no_grad(), torch.cuda.stream(stream):  # a thread has its own idea of both
            return work(item), stream.record_event()

    with closing(ahead(items, on_stream)) as made:
        for batch, event in made:
            consumer = torch.cuda.current_stream(device)
            consumer.wait_event(event)
            for value in vars(batch).values():
                if isinstance(value, Tensor):
                    value.record_stream(consumer)  # or its memory would be free while the consumer still reads it
            yield batch


def ahead(items: Generator[Item, None, None], work: Callable[[Item], Result]) -> Generator[Result, None, None]:
    """``work`` of each item, in order, in one thread that runs two items ahead and ends with the consumer."""
    # Left in this order: the generator can be closed once the thread that runs it has ended.
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="faces-device") as pool:
        done = map(work, items)
        waiting = deque(pool.submit(next, done, None) for _ in range(2))
        try:
            while (made := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, done, None))
                yield made
        finally:
            for future in waiting:
                future.cancel()


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    changed = {id(value): change(value) for value in tensors.values()}
    return replace(batch, **{name: changed[id(value)] for name, value in tensors.items()})


def _pinned(tensor: Tensor) -> Tensor:
    there = torch.empty_like(tensor, pin_memory=True)
    there.numpy()[...] = tensor.numpy()  # torch's own copy would start threads in each of the loader's
    return there
