"""Trained networks in files that other programs read: ONNX and safetensors."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occframe.component import BuildContext
from occframe.errors import OccframeError, first_line
from occframe.generators import GeneratorCard, load_generator
from occframe.model_files import CARD_FILE, Card, read_card, read_model_file, read_state
from occframe.models import ModelCard, load_model
from occframe.storage import write_bytes
from occframe.types import ImageSpec

if TYPE_CHECKING:
    import onnx

#: Key of the JSON that says what an exported network wants to be fed, in either format's metadata.
METADATA_KEY = "occframe"
#: A larger difference between torch and ONNX Runtime is a failed export. Embeddings are compared normalised.
TOLERANCE = 1e-4
OPSET = 18


@dataclass(frozen=True)
class Exported:
    """outputs: names. opset: of ONNX. difference: largest between torch and ONNX Runtime on noise. In safetensors there
    is nothing to run: no outputs, and None for both."""

    url: str
    bytes: int
    outputs: tuple[str, ...]
    opset: int | None
    difference: float | None


def export_safetensors(model_url: str, target: str) -> Exported:
    """All weights of the model in directory ``model_url`` in one file; its card as JSON under ``occframe`` in the
    metadata. A ``pretrained`` step loads it again."""
    from safetensors.torch import save

    card = _card(model_url)
    data = save(read_state(model_url, card), metadata={METADATA_KEY: card.model_dump_json()})
    write_bytes(target, data)
    return Exported(target, len(data), (), None, None)


def export_onnx(model_url: str, target: str, build: BuildContext, *, opset: int = OPSET) -> Exported:
    """The recogniser or generator in directory ``model_url`` in its form for inference, as ONNX with a dynamic batch.

    Input ``images``: float32 [B, 3, H, W], ``(x / 255 - mean) / std`` in the colour order of the ``ImageSpec``, which
    lies as JSON under ``occframe`` in the metadata (a generator: -1..1). Outputs of a recogniser: ``embedding`` [B, D]
    as it is, not normalised, and ``mask`` where it has the capability ``mask_output``; of a generator: ``result``,
    and ``alpha`` where it predicts one.
    Raises OccframeError where the extra `onnx` is missing, or the result differs from torch by more than ``TOLERANCE``.
    """
    onnx, runtime = _onnx()
    card = _card(model_url)
    network: nn.Module
    if isinstance(card, ModelCard):
        network = _Recogniser(load_model(model_url, build).backbone)
    else:
        network = _Generator(load_generator(model_url, build).network)
    spec = card.image_spec
    draw = torch.Generator().manual_seed(0)
    # Two, since the exporter takes a batch of one for a constant.
    images = torch.rand(2, 3, spec.height, spec.width, generator=draw) * 2 - 1
    network.eval().cpu()  # where ONNX Runtime computes too: a GPU rounds convolutions more coarsely
    names = network.names(images)
    model = _trace(network, images, names, opset)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(_facts(card, names))})
    data = model.SerializeToString()
    more = torch.rand(3, 3, spec.height, spec.width, generator=draw) * 2 - 1
    difference = _difference(network, data, more, runtime)
    if not difference <= TOLERANCE:
        raise OccframeError(
            f"the exported network differs from torch's by {difference:.2g} (at most {TOLERANCE:g} is accepted)",
            remedy="another --opset may help; otherwise report it with the backbone's name",
        )
    write_bytes(target, data)
    return Exported(target, len(data), tuple(names), opset, difference)


class _Recogniser(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def names(self, images: Tensor) -> list[str]:
        with torch.inference_mode():
            return ["embedding", *(["mask"] if "mask" in self.backbone(images).extras else [])]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.backbone(images)
        return (output.embedding, output.extras["mask"]) if "mask" in output.extras else (output.embedding,)


class _Generator(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def names(self, images: Tensor) -> list[str]:
        with torch.inference_mode():
            return ["result", *(["alpha"] if self.network(images).alpha is not None else [])]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images)
        return (output.images,) if output.alpha is None else (output.images, output.alpha)


def _trace(network: nn.Module, images: Tensor, names: list[str], opset: int) -> onnx.ModelProto:
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=opset,
            verbose=False,
        )
    if program is None:
        raise OccframeError("torch's exporter gave nothing", remedy="check the versions of torch and onnxscript")
    return program.model_proto


def _difference(network: nn.Module, data: bytes, images: Tensor, runtime: Any) -> float:
    try:
        session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
        found = session.run(None, {"images": images.numpy()})
    except Exception as error:
        raise OccframeError(
            f"ONNX Runtime does not run the exported network: {first_line(error)}", remedy="try another --opset"
        ) from error
    with torch.inference_mode():
        wanted = network(images)
    differences: list[float] = []
    for ours, theirs in zip(wanted, found, strict=True):
        left, right = ours.float(), torch.from_numpy(theirs)
        if left.ndim == 2:
            left, right = F.normalize(left), F.normalize(right)
        differences.append((left - right).abs().max().item())
    return max(differences)


def _facts(card: Card, names: list[str]) -> dict[str, Any]:
    shape = {"embedding_dim": card.embedding_dim} if isinstance(card, ModelCard) else {}
    return {
        "format": 1,
        "kind": card.kind,
        "image_spec": asdict(card.image_spec),
        "fingerprint": card.fingerprint,
        "outputs": names,
    } | shape


def read_facts(text: str) -> tuple[ImageSpec, dict[str, Any]]:
    """The ``ImageSpec`` and everything else of what ``METADATA_KEY`` holds. Raises ValueError, KeyError, TypeError."""
    facts = json.loads(text)
    spec = dict(facts["image_spec"])
    return ImageSpec(**spec | {key: tuple(spec[key]) for key in ("mean", "std")}), facts


def _card(url: str) -> Card:
    """Of whichever kind the model is."""
    try:
        is_generator = GeneratorCard.kind in json.loads(read_model_file(url, CARD_FILE))
    except (ValueError, TypeError):
        is_generator = False
    return read_card(url, GeneratorCard) if is_generator else read_card(url, ModelCard)


def _onnx() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter stands on it)
    except ImportError as error:
        raise OccframeError(
            f"exporting to ONNX needs {error.name}", remedy="install the extra: pip install 'occframe[onnx]'"
        ) from error
    return onnx, onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of torchvision, which is not asked for, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
