"""What a photograph says about its light, its grain and its sharpness: things put into it must share them."""

from __future__ import annotations

import torch
from torch import Tensor

from occframe.constants import constant
from occframe.face_frame import FaceFrame
from occframe_occlusions.devices import divided, ordered

# Cheeks and nose, where skin is nearly always bare and lit as the face is: 12 columns x 8 rows of face coordinates.
_SKIN_U, _SKIN_V = (-1.35, 1.35), (0.45, 1.75)
# What skin of medium tone sends back of white light, linear RGB; sRGB (205, 160, 135).
_SKIN = (0.62, 0.36, 0.25)
_PROBES = 28  # a side: where grain and sharpness are measured


def linear(images: Tensor) -> Tensor:
    """Pixel values, uint8 or float 0..1 -> float32 light, 0..1.

    The square law: within a few hundredths of sRGB's curve, exactly invertible, and the same bits on every device.
    """
    values = images / 255 if images.dtype == torch.uint8 else images.float()
    return values * values


def measure(images: Tensor, frame: FaceFrame) -> dict[str, Tensor]:
    """images: [B, 3, H, W]. Returns, of each image:

    ``light``: [B, 3], by how much white paint would be multiplied: brightness and tint of the light.
    ``slope``: [B, 2], its relative change a unit of u and v. ``colour``: [B] 0..1, 0 for a grey photograph.
    ``grain``: [B], standard deviation of the noise in pixel values 0..1. ``edge``: [B], width of a sharp edge, pixels.

    Only whole pixel values and their order statistics are used: the same bits for uint8 and float, on every device.
    """
    values = _whole(images)
    skin = _skin(values, frame)  # [B, 3, 8, 12]
    (middle,) = _quantiles(skin.flatten(2), 0.6)  # [B, 3]
    middle = divided(middle, 255)
    lit = middle * middle
    grey = (lit[:, 0] * 0.3 + lit[:, 1] * 0.6 + lit[:, 2] * 0.1).clamp(0.004, 1)
    spread = (skin.amax(1) - skin.amin(1)).flatten(1)
    colour = divided(_median(spread) - 3, 12).clamp(0, 1)

    typical = constant(_SKIN, images.device)
    tint = (lit / grey[:, None]) / divided(typical, 0.427)
    tint = 1 + (tint.clamp(0.4, 2.0) - 1) * 0.35 * colour[:, None]
    # Dark skin in full light and fair skin in half of it look alike: brightness counts by its square root.
    level = divided(grey, 0.42).sqrt().clamp(0.22, 1.25)
    left, right = _median(skin[..., :5]), _median(skin[..., 7:])
    above, below = _median(skin[:, :, :3]), _median(skin[:, :, 5:])
    slope_u = ((right - left) / (right + left + 8) * 1.2).clamp(-0.35, 0.35)
    slope_v = ((below - above) / (below + above + 8) * 0.8).clamp(-0.2, 0.2)
    grain, edge = _grain_and_edge(values)
    return {
        "light": level[:, None] * tint,
        "slope": torch.stack([slope_u, slope_v], dim=1),
        "colour": colour,
        "grain": grain,
        "edge": edge,
        "skin": lit,
    }


def _whole(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    return (images.float().nan_to_num(0, 1, 0).clamp(0, 1) * 255).round().to(torch.uint8)


def _skin(values: Tensor, frame: FaceFrame) -> Tensor:
    height, width = values.shape[2:]
    steps_u = torch.arange(12, device=values.device) * ((_SKIN_U[1] - _SKIN_U[0]) / 11) + _SKIN_U[0]
    steps_v = torch.arange(8, device=values.device) * ((_SKIN_V[1] - _SKIN_V[0]) / 7) + _SKIN_V[0]
    u = steps_u[None, None, :].expand(len(values), 8, 12)
    v = steps_v[None, :, None].expand(len(values), 8, 12)
    x, y = frame.to_image(u, v)
    column, row = x.round().clamp(0, width - 1).long(), y.round().clamp(0, height - 1).long()
    index = (row * width + column).flatten(1)
    return values.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).view(-1, 3, 8, 12).float()


def _grain_and_edge(values: Tensor) -> tuple[Tensor, Tensor]:
    """Noise from the flattest places, sharpness from how fast the strongest edges turn."""
    height, width = values.shape[2:]
    if min(height, width) < 8:
        return torch.zeros(len(values), device=values.device), torch.ones(len(values), device=values.device)
    rows = (torch.arange(_PROBES, device=values.device) * (height - 1)) // (_PROBES - 1)
    columns = (torch.arange(_PROBES, device=values.device) * (width - 3)) // (_PROBES - 1) + 1
    # A prime shift from row to row, lest all probes fall on one phase of JPEG's blocks.
    columns = (columns[None, :] + (rows * 3)[:, None]) % (width - 2) + 1
    before, at, after = (values[:, 1, rows[:, None], columns + shift].flatten(1).float() for shift in (-1, 0, 1))
    turn = (before + after - 2 * at).abs()
    step = (after - before).abs()
    # For white noise of deviation s the second difference has deviation 2.45 s, of which 0.32 at the lower quarter.
    flattest, sharpest = _quantiles(turn, 0.25, 0.97)
    grain = divided(flattest, 0.32 * 2.45 * 255).clamp(0, 0.04)
    # The edge of a box blur of w pixels: largest step over largest turn grows with w.
    (steepest,) = _quantiles(step, 0.97)
    edge = (steepest / (sharpest + 1)).clamp(0.9, 2.5)
    return grain, edge


def _median(values: Tensor) -> Tensor:
    """[B, …] -> [B]."""
    return _quantiles(values.flatten(1), 0.5)[0]


def _quantiles(values: Tensor, *shares: float) -> list[Tensor]:
    """[…, N] -> […] each: order statistics, so that no sum's rounding depends on how it is split."""
    in_order = ordered(values)
    return [in_order[..., round(share * (values.shape[-1] - 1))] for share in shares]
