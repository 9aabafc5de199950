"""What a camera does once everything in front of it is in its place: tone, blur, noise, coarse colours, JPEG.

An occlusion that is put on afterwards has sharp colours that no camera gives, and a network takes these for the
occlusion: what it learns to remove is what was drawn. Photographed once more, both have the same colours and edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from occframe.constants import constant
from occframe.random import uniform

#: Numbers drawn for a picture; see ``photographed``.
_DRAWN = 12
_SETTINGS, _NOISE = 0, 1  # streams
# Half of the largest kernel, in pixels: two standard deviations of the coarsest colours.
_REACH = 6
#: ITU-T T.81 (JPEG), tables K.1 and K.2: the steps in which light and colours are stored at quality 50.
_LIGHT_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
#: ITU-R BT.601, as in JFIF: red, green and blue to light and two differences of colour, and back.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1, 0, 1.402), (1, -0.344136, -0.714136), (1, 1.772, 0))


def photographed(images: Tensor, seeds: Tensor) -> Tensor:
    """Each picture through a camera of its own.

    images: uint8 [B, 3, H, W] RGB. seeds: int64 [B], on the same device: equal ones photograph alike, so that a picture
    with an occlusion and the one without stay a pair. Returns the same shape and type, channels last.

    Drawn for each, evenly from the range: gamma 0.67..1.5 (in its logarithm), contrast 0.75..1.25, brightness +-20 of
    255, red, green and blue +-8 % each, blur of light 0..1.1 pixels in six of ten, noise +-4 in four of ten, blur of
    colours 0..3 pixels in eight of ten, JPEG of quality 95, in six of ten 40..95, its blocks anywhere.
    """
    count, _, height, width = images.shape
    drawn = uniform(seeds, _SETTINGS, _DRAWN)[:, :, None].unbind(1)
    gamma, contrast, brightness, red, green, blue, soft, noisy, coarse, quality, down, right = drawn

    light = images.float() / 255
    light = light ** torch.exp(_between(gamma, -0.4, 0.4))[:, :, None, None]
    light = (light - 0.43) * _between(contrast, 0.75, 1.25)[..., None, None] + 0.43
    light = light + (_between(brightness, -20, 20) / 255)[..., None, None]
    casts = torch.cat([_between(channel, 0.92, 1.08) for channel in (red, green, blue)], dim=1)
    light = (light * casts[:, :, None, None]).clamp(0, 1) * 255
    light = _blurred(light, _sometimes(soft, 0.6, 0, 1.1))
    grain = uniform(seeds, _NOISE, height * width).reshape(count, 1, height, width)
    light = (light + (grain * 2 - 1) * _sometimes(noisy, 0.4, 0, 4)[..., None, None]).clamp(0, 255)

    ycc = _recoloured(light, _TO_YCC)
    ycc = torch.cat([ycc[:, :1], _blurred(ycc[:, 1:], _sometimes(coarse, 0.8, 0, 3))], dim=1)
    ycc = compressed(ycc, 95 - _sometimes(quality, 0.6, 0, 55), (down * 8).long(), (right * 8).long())
    return _recoloured(ycc, _TO_RGB).round().clamp(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def _between(drawn: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * drawn


def _sometimes(drawn: Tensor, share: float, low: float, high: float) -> Tensor:
    """``low``, and in ``share`` of all cases something up to ``high``."""
    return _between(torch.where(drawn < share, drawn / share, 0), low, high)


def _recoloured(images: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", constant(matrix, images.device), images)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """By a Gaussian of each picture's own ``sigma`` [B, 1] in pixels; 0 leaves it as it is."""
    count, channels, height, width = images.shape
    away = torch.arange(-_REACH, _REACH + 1, device=images.device)
    kernel = torch.exp(-(away**2) / (2 * sigma.clamp(min=0.05) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    flat = images.reshape(1, count * channels, height, width)
    edges = (_REACH,) * 4
    flat = F.conv2d(F.pad(flat, edges, mode="replicate"), kernel[..., None], groups=count * channels)
    return F.conv2d(flat, kernel[:, :, None], groups=count * channels).reshape(images.shape)


def compressed(ycc: Tensor, quality: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """As JPEG stores light and colours, except that colours keep their size: those were blurred before.

    ycc: [B, 3, H, W], light 0..255. quality: [B, 1], 1..99. down, right: [B, 1] int64, where its blocks begin.
    """
    count, channels, height, width = ycc.shape
    device = ycc.device
    # Moved around, so that the grid lies anywhere, and filled up to whole blocks.
    rows = (torch.arange(-(-height // 8) * 8, device=device) + down) % height
    columns = (torch.arange(-(-width // 8) * 8, device=device) + right) % width
    each = torch.arange(count, device=device)[:, None, None]
    moved = ycc.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    frequency = torch.arange(8, device=device, dtype=torch.float32)
    cosines = torch.cos((2 * frequency + 1) * frequency[:, None] * (math.pi / 16)) / 2
    cosines[0] /= math.sqrt(2)
    table = constant((_LIGHT_STEPS, _COLOUR_STEPS, _COLOUR_STEPS), device)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    steps = (table * scale[:, :, None, None]).round().clamp(min=1)[:, :, None, None]

    blocks = moved.reshape(count, channels, len(rows[0]) // 8, 8, len(columns[0]) // 8, 8).transpose(3, 4)
    stored = (cosines @ blocks @ cosines.T / steps).round() * steps
    back = (cosines.T @ stored @ cosines).transpose(3, 4).reshape(moved.shape)

    result = torch.empty_like(ycc).permute(0, 2, 3, 1)
    result[each, rows[:, :height, None], columns[:, None, :width]] = back.permute(0, 2, 3, 1)[:, :height, :width]
    return result.permute(0, 3, 1, 2)
