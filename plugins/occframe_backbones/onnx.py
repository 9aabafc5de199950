"""Any recogniser in an ONNX file, one of InsightFace's for instance, run by ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from occframe import BuildContext, OccframeError
from occframe.exporting import METADATA_KEY, read_facts
from occframe.storage import filesystem, join, read_bytes
from occframe.types import BackboneOutput, ImageSpec
from occframe_backbones.configs import OnnxConfig

#: Larger files are refused: ONNX itself ends at 2 GiB.
MAX_BYTES = 2 << 30


class OnnxBackbone(nn.Module):
    """Fulfils ``Backbone`` for inference: no gradients, no feature maps. Its only state is the file's SHA-256."""

    feature_info = ()
    sha256: Tensor

    def __init__(self, data: bytes, origin: str, config: OnnxConfig, device: str) -> None:
        super().__init__()
        self._origin = origin
        self._session = _session(data, origin, device)
        self.image_spec, wanted = self._describe(config)
        self._outputs = [wanted, *(["mask"] if "mask" in self._names() and wanted != "mask" else [])]
        digest = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
        self.register_buffer("sha256", torch.from_numpy(digest.copy()))
        probe = torch.zeros(1, 3, self.image_spec.height, self.image_spec.width)
        embedding = self._run(probe)[0]
        if embedding.ndim != 2:
            raise OccframeError(
                f"{origin}: output `{wanted}` is {list(embedding.shape)}, not [B, D]",
                remedy=f"name the embedding with `output`; there are: {', '.join(self._names())}",
            )
        self.embedding_dim = int(embedding.shape[1])

    def forward(self, images: Tensor) -> BackboneOutput:
        embedding, *mask = self._run(images)
        return BackboneOutput(embedding, [], {"mask": mask[0]} if mask else {})

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if "sha256" in state and not torch.equal(state["sha256"].cpu(), self.sha256.cpu()):
            raise OccframeError(
                f"{self._origin} is another file than the one this model was made from",
                remedy="put the old file back, or run the step that made the model again",
            )
        return state

    def _run(self, images: Tensor) -> list[Tensor]:
        name = self._session.get_inputs()[0].name
        array = np.ascontiguousarray(images.detach().float().cpu().numpy())
        fixed = self._session.get_inputs()[0].shape[0]
        parts = np.split(array, len(array)) if fixed == 1 and len(array) > 1 else [array]
        found = [self._session.run(self._outputs, {name: part}) for part in parts]
        return [torch.from_numpy(np.concatenate(pieces)).to(images.device) for pieces in zip(*found, strict=True)]

    def _names(self) -> list[str]:
        return [item.name for item in self._session.get_outputs()]

    def _describe(self, config: OnnxConfig) -> tuple[ImageSpec, str]:
        """What the file wants to be fed, as its metadata or the configuration says, and the embedding's name."""
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3:
            shapes = ", ".join(f"{item.name} {item.shape}" for item in inputs)
            raise OccframeError(
                f"{self._origin} takes {shapes}, not one batch of images [B, 3, H, W]",
                remedy="name a face recogniser's ONNX file",
            )
        output = config.output or ("embedding" if "embedding" in self._names() else self._names()[0])
        if output not in self._names():
            raise OccframeError(
                f"{self._origin} has no output `{output}`", remedy=f"there are: {', '.join(self._names())}"
            )
        written = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if written is not None:
            try:
                return read_facts(written)[0], output
            except (ValueError, KeyError, TypeError) as error:
                raise OccframeError(
                    f"{self._origin}: its metadata `{METADATA_KEY}` is damaged: {error}", remedy="export it again"
                ) from error
        height, width = config.input_size or tuple(inputs[0].shape[2:])
        if not isinstance(height, int) or not isinstance(width, int):
            raise OccframeError(
                f"{self._origin} takes images of any size", remedy="say which with `input_size: [112, 112]`"
            )
        return ImageSpec(height, width, config.colour, config.mean, config.std), output


def _session(data: bytes, origin: str, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise OccframeError(
            "the backbone `onnx` needs onnxruntime", remedy="install the extra: pip install 'occframe[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(data, options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise OccframeError(
            f"{origin} cannot be read as ONNX: {reason}",
            remedy="fetch it again; weights in a file of their own beside it are not read, so store them inside",
        ) from error


def build_onnx(config: OnnxConfig, context: BuildContext) -> OnnxBackbone:
    fs, place = filesystem(config.path)
    if not fs.isdir(place):
        return OnnxBackbone(_read(config.path), config.path, config, context.device)
    found = []
    for file in sorted(name for name in fs.ls(place, detail=False) if name.endswith(".onnx")):
        url = join(config.path, file.rpartition("/")[2])
        data = _read(url)
        if _takes_faces(_session(data, url, "cpu")):
            found.append((url, data))
    if len(found) != 1:
        names = ", ".join(url for url, _ in found) or "none of its files"
        raise OccframeError(
            f"{config.path} should hold one recogniser, an .onnx that takes 112 x 112 faces; {names} does",
            remedy="name the file itself with `path`",
        )
    return OnnxBackbone(found[0][1], found[0][0], config, context.device)


def _read(url: str) -> bytes:
    fs, place = filesystem(url)
    if not fs.isfile(place):
        raise OccframeError(f"there is no ONNX file at {url}", remedy="check the path")
    if (size := fs.info(place)["size"]) > MAX_BYTES:
        raise OccframeError(f"{url} has {size >> 20} MiB, more than ONNX files can have")
    return read_bytes(url)


def _takes_faces(session: Any) -> bool:
    """Of the files in an InsightFace model folder only the recogniser takes 112 x 112: detectors, landmarks, gender
    and age take other sizes."""
    inputs = session.get_inputs()
    return len(inputs) == 1 and list(inputs[0].shape[1:]) == [3, 112, 112] and len(session.get_outputs()) == 1
