"""Painting as a few kernels: glasses are some 960 small operations, each of which a GPU has to be asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from occframe_occlusions.canvas import Window
from occframe_occlusions.devices import recording

#: (images [B, 3, H, W], parameters of B images, boxes [B, 4], window) -> tensors, or dictionaries of them, of B images
Paint = Callable[[Tensor, dict[str, Tensor], Tensor, Window], Any]


class Fused:
    """What ``paint`` does, recorded for any number of faces and run through ``torch.compile``. The first call for a
    size of picture takes half a minute, no other does, however many faces it has. Results are the same to a rounding.
    """

    def __init__(self, paint: Paint) -> None:
        self._paint = paint
        self._made: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, images: Tensor, params: dict[str, Tensor], boxes: Tensor, window: Window) -> Any:
        if len(images) < 2:  # a recording for any number would have to know of one face that it is one
            return self._paint(images, params, boxes, window)
        key = (images.device, images.dtype, images.shape[1:], images.stride()[1:], window)
        if key not in self._made:
            self._made[key] = self._recorded(images, params, boxes, window)
        return self._made[key](images, params, boxes)

    def _recorded(self, images: Tensor, params: dict[str, Tensor], boxes: Tensor, window: Window) -> Callable[..., Any]:
        any_number = {0: torch.export.Dim("faces", min=2)}
        with recording(), torch.no_grad():
            # Makes the tables that are kept, which are no part of the recording.
            self._paint(images, params, boxes, window)
            recorded = torch.export.export(
                _Paint(self._paint, window),
                (images, params, boxes),
                dynamic_shapes=(any_number, dict.fromkeys(params, any_number), any_number),
                strict=False,
            )
        return torch.compile(recorded.module(), dynamic=True)


class _Paint(nn.Module):
    def __init__(self, paint: Paint, window: Window) -> None:
        super().__init__()
        self._paint, self._window = paint, window

    def forward(self, images: Tensor, params: dict[str, Tensor], boxes: Tensor) -> Any:
        return self._paint(images, params, boxes, self._window)
