"""The three networks of MTCNN, and their weights as the PyPI package ``mtcnn`` carries them.

Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE
Signal Processing Letters 2016, figure 2. Kernel sizes and pooling follow the authors' released networks.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from occframe.errors import OccframeError

if TYPE_CHECKING:
    import numpy as np

PACKAGE, VERSION = "mtcnn", "1.0.0"

# The files are joblib pickles, and loading a pickle runs what is in it: only these very bytes are ever loaded.
SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}


def _stack(widths: Sequence[int], kernels: Sequence[int], pools: Sequence[nn.Module | None]) -> list[nn.Module]:
    """Convolutions without padding, each with PReLU and the pooling behind it."""
    layers: list[nn.Module] = []
    for inputs, outputs, kernel, pool in zip((3, *widths[:-1]), widths, kernels, pools, strict=True):
        layers += [nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs), *([pool] if pool else [])]
    return layers


class _ColumnMajorFlatten(nn.Module):
    """[N, C, H, W] -> [N, W*H*C]: the order in which the released dense layers read their maps."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 2, 1).flatten(1)


class Network(nn.Module):
    """A trunk and its heads, one tensor each: box offsets first, class logits (other, face) last."""

    def __init__(self, trunk: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def proposal_network() -> Network:
    """[N, 3, H, W] -> box offsets [N, 4, h, w], class logits [N, 2, h, w]; each cell sees 12 x 12 pixels, stride 2."""
    trunk = _stack((10, 16, 32), (3, 3, 3), (nn.MaxPool2d(2, ceil_mode=True), None, None))
    return Network(trunk, [nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)])


def refinement_network() -> Network:
    """[N, 3, 24, 24] -> box offsets [N, 4], class logits [N, 2]."""
    pools = (nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(3, 2), None)
    maps = _stack((28, 48, 64), (3, 3, 2), pools)
    trunk = [*maps, _ColumnMajorFlatten(), nn.Linear(576, 128), nn.PReLU(128)]
    return Network(trunk, [nn.Linear(128, 4), nn.Linear(128, 2)])


def output_network() -> Network:
    """[N, 3, 48, 48] -> box offsets [N, 4], landmarks [N, 10] (five x, then five y), class logits [N, 2]."""
    pools = (nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, ceil_mode=True), None)
    maps = _stack((32, 64, 64, 128), (3, 3, 3, 2), pools)
    trunk = [*maps, _ColumnMajorFlatten(), nn.Linear(1152, 256), nn.PReLU(256)]
    return Network(trunk, [nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)])


def load_networks() -> tuple[Network, Network, Network]:
    """Proposal, refinement and output network with the package's weights, in inference mode.

    Raises OccframeError where the package is missing or its files are not those of the known version.
    """
    networks = {"pnet": proposal_network(), "rnet": refinement_network(), "onet": output_network()}
    for name, network in networks.items():
        _fill(network, _read(name))
        network.requires_grad_(False).eval()
    return networks["pnet"], networks["rnet"], networks["onet"]


def _read(name: str) -> list[np.ndarray]:
    remedy = f"pip install 'occframe[detect]' (it installs {PACKAGE}=={VERSION}), or use the detector `yunet`"
    try:
        # Located through its metadata: importing the package would import tensorflow.
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(f"mtcnn/assets/weights/{name}.lz4")))
        data = path.read_bytes()
        import joblib  # with lz4, a dependency of the package
    except (importlib.metadata.PackageNotFoundError, OSError, ImportError) as error:
        raise OccframeError(f"detector `mtcnn`: its weights are not installed ({error})", remedy=remedy) from error
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise OccframeError(f"detector `mtcnn`: {path} is not the file of {PACKAGE} {VERSION}", remedy=remedy)
    return list(joblib.load(io.BytesIO(data)))


def _fill(network: Network, arrays: Sequence[np.ndarray]) -> None:
    """Parameters in the order of the layers; kernels [height, width, in, out], dense weights [in, out]."""
    for parameter, array in zip(network.parameters(), arrays, strict=True):
        value = torch.from_numpy(array)
        if parameter.ndim == 4:
            value = value.permute(3, 2, 0, 1)
        elif parameter.ndim == 2:
            value = value.T
        parameter.data.copy_(value.reshape(parameter.shape))
