"""Batches from the host to the device, one ahead of the computation that uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.profiler import record_function

from occframe.trees import mapped, tensors_in

#: Bytes: a tensor begins at a multiple of them, as one of any type has to.
_ALIGNED = 16

#: A frozen dataclass of tensors, or None.
Batch = TypeVar("Batch", bound=Any)
Item = TypeVar("Item")
Result = TypeVar("Result")


def moved(batch: Batch, device: torch.device) -> Batch:
    """Its tensors on ``device``; one that stands under two names stays one. From pinned memory nobody waits for it."""
    with record_function("transfer"):
        return _each(batch, lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class Packed:
    """A plain structure with the contents of its tensors in one piece of memory, to be copied at once: a copy of a few
    bytes takes a GPU as long as one of many."""

    structure: Any
    memory: Tensor  # uint8 [n], of all tensors in the order of ``tensors_in``


def packed(structure: Any, *, pin: bool) -> Packed:
    """structure: of tensors on the CPU. pin: into memory that a CUDA device reads by itself."""
    tensors = tensors_in(structure)
    memory = torch.empty(sum(map(_room, tensors)), dtype=torch.uint8, pin_memory=pin)
    for tensor, place in zip(tensors, _places(memory, tensors), strict=True):
        place.copy_(tensor)
    return Packed(structure, memory)


def unpacked(parcel: Packed, device: torch.device) -> Any:
    """What was packed, on ``device``. From pinned memory nobody waits for it."""
    with record_function("transfer"):
        memory = parcel.memory.to(device, non_blocking=True)
    places = _places(memory, tensors_in(parcel.structure))
    return mapped(parcel.structure, lambda tensor: next(places))


def _places(memory: Tensor, tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """The part of the memory where each of them lies, of its type and shape."""
    start = 0
    for tensor in tensors:
        part = memory[start : start + tensor.numel() * tensor.element_size()]
        yield part.view(tensor.dtype).view(tensor.shape)
        start += _room(tensor)


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // _ALIGNED) * _ALIGNED


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
