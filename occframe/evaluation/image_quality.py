"""How like two pictures are, pixel by pixel: PSNR and SSIM, over the whole picture or a part of it.

Images are Tensors [B, C, H, W], uint8 0..255 or float 0..1, ``images`` and ``reference`` of one dtype and shape.
weights: Tensor [B, 1, H, W], bool or 0..1, how much a pixel counts; None: every one alike.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from occframe.errors import OccframeError

#: Of two equal pictures the PSNR is infinite, and one of them would make every mean so. In means it counts as this.
MOST_DB = 100.0

# Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
# IEEE Transactions on Image Processing 13(4), 2004, section III.C: window, its deviation in pixels, K1 and K2.
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as MATLAB's rgb2gray in the authors' own code


def psnr(images: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each image over all channels, [B] float64, dB.

    Infinite where nothing differs, NaN where the weights are zero everywhere. Raises OccframeError for images that
    cannot be compared.
    """
    images, reference = _comparable(images, reference)
    error = (images - reference).square().mean(1, keepdim=True)
    return 10 * torch.log10(1 / _mean(error, weights))


def ssim(images: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
    """Structural similarity of each image's luma, [B] float64, at most 1 (equal), as Wang et al. 2004 define it.

    The mean of their map, which leaves out the 5 pixels at each border where the window does not fit; ``weights`` of
    these count for nothing. NaN where no weight is left. Raises OccframeError for images that cannot be compared.
    """
    images, reference = _comparable(images, reference)
    if min(images.shape[2:]) < _WINDOW:
        raise OccframeError(f"SSIM looks through windows of {_WINDOW} pixels, the images are {list(images.shape[2:])}")
    x, y = _luma(images), _luma(reference)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x * mean_x, _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = _K1 * _K1, _K2 * _K2  # with L = 1, since values are 0..1
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = numerator / ((mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2))
    edge = _WINDOW // 2
    return _mean(similarity, None if weights is None else weights[:, :, edge:-edge, edge:-edge])


def mean_db(values: Tensor) -> float:
    """Mean of decibels [B], the infinite ones taken as ``MOST_DB``, those that are NaN left out; NaN of nothing."""
    return float(values.clamp(max=MOST_DB).nanmean())


def _comparable(images: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 0..1."""
    if images.shape != reference.shape or images.dtype != reference.dtype or images.ndim != 4:
        raise OccframeError(
            f"images {list(images.shape)} {images.dtype} cannot be compared with {list(reference.shape)} "
            f"{reference.dtype}",
            remedy="give both as [B, C, H, W] of one size, uint8 0..255 or float 0..1",
        )
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    return images.double() / scale, reference.double() / scale


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """[B, 1, H, W] -> [B]"""
    if weights is None:
        return values.flatten(1).mean(1)
    weights = weights.to(values).expand_as(values)
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def _luma(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(_LUMA))[:, None]


def _blur(images: Tensor) -> Tensor:
    """[B, 1, H, W] through the window, where it fits: [B, 1, H - 10, W - 10]."""
    place = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    kernel = torch.exp(-place.square() / (2 * _SIGMA * _SIGMA))
    kernel = kernel / kernel.sum()
    return F.conv2d(F.conv2d(images, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
