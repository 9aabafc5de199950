"""Coverage of shapes given by signed distances: negative inside, in face units or pixels. All maps are [B, h, w]."""

from __future__ import annotations

from torch import Tensor


def per_image(value: Tensor) -> Tensor:
    """[B] -> [B, 1, 1], to meet maps."""
    return value.view(-1, 1, 1)


def coverage(distance: Tensor, sharpness: Tensor) -> Tensor:
    """Share of a pixel inside: 0..1, exactly 0 and 1 away from the edge.

    sharpness: [B, 1, 1], one over the width of the edge, in the distance's unit: pixels a unit for an edge of a pixel.
    """
    return (0.5 - distance * sharpness).clamp(0, 1)


def stripe(distance: Tensor, thickness: Tensor | float, sharpness: Tensor) -> Tensor:
    """Coverage of 0 <= distance <= thickness, right also for lines thinner than a pixel."""
    return (coverage(distance - thickness, sharpness) - coverage(distance, sharpness)).clamp(min=0)


def smooth(value: Tensor) -> Tensor:
    """0..1 eased at both ends: 3t² - 2t³."""
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)


def fade(value: Tensor, start: Tensor | float, end: Tensor | float) -> Tensor:
    """1 before ``start``, 0 after ``end``, eased between; ``start`` may be the larger one."""
    return smooth((end - value) / (end - start))


def segment(
    u: Tensor, v: Tensor, start: tuple[Tensor | float, Tensor | float], end: tuple[Tensor | float, Tensor | float]
) -> tuple[Tensor, Tensor]:
    """Distance from a line segment, and the place along it, 0..1."""
    along_u, along_v = end[0] - start[0], end[1] - start[1]
    from_u, from_v = u - start[0], v - start[1]
    place = ((from_u * along_u + from_v * along_v) / (along_u * along_u + along_v * along_v)).clamp(0, 1)
    off_u, off_v = from_u - place * along_u, from_v - place * along_v
    return (off_u * off_u + off_v * off_v).sqrt(), place


def rounded_box(u: Tensor, v: Tensor, half_u: Tensor | float, half_v: Tensor | float, radius: Tensor | float) -> Tensor:
    """Distance from a box around the origin with rounded corners."""
    out_u, out_v = u.abs() - (half_u - radius), v.abs() - (half_v - radius)
    corner_u, corner_v = out_u.clamp(min=0), out_v.clamp(min=0)
    return (corner_u * corner_u + corner_v * corner_v).sqrt() + out_u.maximum(out_v).clamp(max=0) - radius


def ellipse(u: Tensor, v: Tensor, half_u: Tensor | float, half_v: Tensor | float) -> Tensor:
    """Distance from an ellipse around the origin, first order: right at the edge, rough far from it."""
    along, down = u / half_u, v / half_v
    inner = (along * along + down * down).sqrt()
    steep_u, steep_v = along / half_u, down / half_v
    return inner * (inner - 1) / (steep_u * steep_u + steep_v * steep_v).sqrt().clamp(min=1e-6)
