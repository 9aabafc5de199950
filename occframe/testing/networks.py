"""What the checks of networks share: weights that show a mistake, copies through safetensors, and tolerances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from occframe.testing.check import CheckFailed, require

if TYPE_CHECKING:
    from occframe.testing.subject import Subject


def livelier(network: nn.Module, images: Tensor) -> nn.Module:
    """Batch norms of a fresh network do next to nothing, which hides one that is forgotten or misplaced: give them the
    statistics of random images and weights of their own. Returns the network in evaluation mode.

    images: [B, 3, H, W] model inputs.
    """
    draw = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        if weight.ndim > 1 and not weight.any():  # a layer that begins at 0 hides whatever comes before it
            weight.data = torch.randn(weight.shape, generator=draw) / weight[0].numel() ** 0.5
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in norms:
        if layer.affine:
            layer.weight.data *= torch.rand(layer.weight.shape, generator=draw) * 0.4 + 0.8
            layer.bias.data += torch.randn(layer.bias.shape, generator=draw) * 0.05
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    for layer, momentum in zip(norms, kept, strict=True):
        layer.momentum = momentum
    return network.eval()


def safetensors_bytes(network: nn.Module) -> bytes:
    """As ``occframe.models`` saves them. Raises CheckFailed where weights cannot be written so."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    try:
        return save(tensors)
    except (RuntimeError, ValueError) as error:
        raise CheckFailed(f"safetensors cannot write its state_dict: {error}") from error


def fresh_copy_of(subject: Subject, weights: bytes) -> Any:
    """A network built with another seed, the saved weights loaded into it strictly."""
    from safetensors.torch import load

    other, state = subject.build(seed=5), load(weights)
    missing = sorted(set(other.state_dict()) ^ set(state))
    require(not missing, f"two instances have other weights: {', '.join(missing[:4])}")
    other.load_state_dict(state)
    return other


def close(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal up to the rounding of another order of summation, in relation to the largest value."""
    scale = max(float(other.detach().abs().max()), 1e-6)
    return one.shape == other.shape and bool(((one - other).abs() <= tolerance * scale).all())


def difference(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"shapes {list(one.shape)} and {list(other.shape)}"
    return f"{float((one - other).detach().abs().max()):.2g} in values up to {float(other.detach().abs().max()):.2g}"
