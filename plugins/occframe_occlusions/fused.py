"""Painting as a few kernels: glasses are a thousand small operations, each of which a GPU has to be asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic_shapes

from occframe_occlusions.devices import recording

#: Parameters may lie side by side in one piece of memory, where the place of each depends on how many faces there are:
#: numbers that were equal once are not to be taken for the same. Made once, as each leaves a trace in its thread.
_APART = symbolic_shapes.patch(use_duck_shape=False)  # type: ignore[attr-defined]

#: (images [B, 3, H, W], parameters of B images) -> tensors, or dictionaries of them, of B images
Paint = Callable[[Tensor, dict[str, Tensor]], Any]


class Fused:
    """What ``paint`` does, recorded for any number of faces and run through ``torch.compile``. The first call for a
    size of picture takes half a minute, no other does, however many faces it has. Results are the same to a rounding.
    """

    def __init__(self, paint: Paint) -> None:
        self._paint = paint
        self._made: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, images: Tensor, params: dict[str, Tensor]) -> Any:
        if len(images) < 2:  # a recording for any number would have to know of one face that it is one
            with recording():
                return self._paint(images, params)
        key = (images.device, images.dtype, images.shape[1:], images.stride()[1:])
        if key not in self._made:
            self._made[key] = self._recorded(images, params)
        with _APART:
            return self._made[key](images, params)

    def _recorded(self, images: Tensor, params: dict[str, Tensor]) -> Callable[..., Any]:
        any_number = {0: torch.export.Dim("faces", min=2)}
        with recording(), torch.no_grad():
            # Makes the tables that are kept, which are no part of the recording.
            self._paint(images, params)
            recorded = torch.export.export(
                _Paint(self._paint),
                (images, params),
                dynamic_shapes=(any_number, dict.fromkeys(params, any_number)),
                strict=False,
            )
        return torch.compile(recorded.module(), dynamic=True)


class _Paint(nn.Module):
    def __init__(self, paint: Paint) -> None:
        super().__init__()
        self._paint = paint

    def forward(self, images: Tensor, params: dict[str, Tensor]) -> Any:
        return self._paint(images, params)
