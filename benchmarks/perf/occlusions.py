"""Images a second of every occlusion generator, one thread: uint8 batches of 64, parameters drawn and applied.

The other side is how masks are put on today, one image after the other. MaskTheFace
(https://github.com/aqeelanwar/MaskTheFace) finds each face and its 68 landmarks with dlib, warps a template in OpenCV
and blends it: rebuilt here from dlib and its landmark model, with ``pip install dlib-bin face_recognition_models``.
Where these are absent only its last part remains: landmarks given, a ready RGBA template is warped and blended, without
light, shadow, grain or parts. (insightface's renderer takes about 10 ms an image by its authors' word.)

Seconds are the process's own CPU time, as machines are shared; a core alone is rather faster than half a busy one.
With ``--device cuda``: shares of a training step, see ``occlusions_cuda.py``.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from occlusions_cuda import share_of_a_step, training_step
from side_by_side import Comparison, interleave, main

from occframe.component import BuildContext, OcclusionBlock
from occframe.face_frame import template_landmarks
from occframe.standalone import parse_block, standalone_context
from occframe.types import FaceBatch
from occframe_datasets.synthetic import SyntheticFaces
from occframe_occlusions.examples import face_sprite_folder

_BATCH = 64
_PLAIN = ("rectangles", "erasing", "block-grid")
_LEFT_OUT = ("choice", "compose", "sprites")  # as fast as what they are given


def faces(size: int, count: int = _BATCH) -> FaceBatch:
    drawn = SyntheticFaces(identities=count, images=1, size=size, seed=0)
    pictures = np.stack(drawn.read(list(range(count))))
    # As the loader gives them: channels last in memory.
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    landmarks = template_landmarks(size, size).expand(count, 5, 2)
    return FaceBatch(images=images, index=torch.arange(count), landmarks=landmarks, identities=torch.arange(count))


def generators(context: BuildContext) -> Iterator[tuple[str, Any]]:
    with TemporaryDirectory() as folder:
        needed = {"face-sprites": {"url": str(face_sprite_folder(Path(folder)))}}
        for component in sorted(context.registry.components("occlusion"), key=lambda item: item.name):
            if component.name not in _LEFT_OUT and component.owner == "occframe":
                written = {"use": component.name} | needed.get(component.name, {})
                yield component.name, context.build(parse_block(OcclusionBlock, written, context))


def rate(work: Callable[[], Any], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return times * _BATCH / (time.process_time() - start)


def template_paste(batch: FaceBatch) -> Callable[[], Any]:
    """The last part of MaskTheFace's way: a homography, a warp and a blend for each image."""
    size = batch.images.shape[2]
    template = np.zeros((200, 240, 4), np.uint8)
    cv2.ellipse(template, (120, 90), (115, 95), 0, 0, 360, (220, 230, 240, 255), -1, cv2.LINE_AA)
    corners = np.float32([[10, 40], [230, 40], [60, 195], [180, 195]])
    places = np.float32([[0.2, 0.55], [0.8, 0.55], [0.34, 0.98], [0.66, 0.98]]) * size
    pictures = batch.images.permute(0, 2, 3, 1).numpy()

    def work() -> np.ndarray:
        out = []
        for picture in pictures:
            matrix = cv2.getPerspectiveTransform(corners, places)
            layer = cv2.warpPerspective(template, matrix, (size, size), flags=cv2.INTER_LINEAR)
            alpha = layer[:, :, 3:].astype(np.float32) / 255
            out.append((picture * (1 - alpha) + layer[:, :, :3] * alpha).astype(np.uint8))
        return np.stack(out)

    return work


def with_detector(batch: FaceBatch) -> Callable[[], Any] | None:
    """MaskTheFace's whole way. None where dlib or its landmark model is not installed."""
    try:
        import dlib
    except ImportError:
        return None
    # Not imported: it asks for a module that setuptools no longer has.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None:
        return None
    model = Path(package.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"
    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(model))
    paste = template_paste(batch)
    pictures = np.ascontiguousarray(batch.images.permute(0, 2, 3, 1).numpy())
    whole = dlib.rectangle(0, 0, pictures.shape[2] - 1, pictures.shape[1] - 1)

    def work() -> np.ndarray:
        for picture in pictures:
            found = detector(picture, 1)
            predictor(picture, found[0] if len(found) else whole)
        return paste()

    return work


def compare(quick: bool) -> list[Comparison]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    context = standalone_context()
    rows = []
    for size in (112,) if quick else (112, 224):
        batch = faces(size)
        times, rounds = (1, 2) if quick else (2, 5) if size == 112 else (1, 3)
        paste = template_paste(batch)
        for use, generator in generators(context):

            def ours(generator: Any = generator, batch: FaceBatch = batch) -> Any:
                return generator.apply(batch.images, generator.sample(batch, torch.arange(_BATCH)))

            least = 3000 if use in _PLAIN else 500
            bar = f">= {least}/s" if size == 112 else ">= 150/s" if use not in _PLAIN else ""
            name = f"{use} {size}, theirs: template paste"
            rows.append(
                interleave(
                    name,
                    lambda ours=ours, times=times: rate(ours, times),
                    lambda paste=paste, times=times: rate(paste, times),
                    unit="images/s",
                    bar=bar,
                    rounds=rounds,
                )
            )
            if use == "medical-mask" and (peer := with_detector(batch)) is not None:
                rows.append(
                    interleave(
                        f"{use} {size}, theirs: dlib + template",
                        lambda ours=ours, times=times: rate(ours, times),
                        lambda peer=peer: rate(peer, 1),
                        unit="images/s",
                        bar="",
                        rounds=2 if quick else 3,
                    )
                )
    return rows


def compare_on_cuda(quick: bool) -> list[Comparison]:
    context, rows = standalone_context(), []
    step = training_step(context)
    for count in (64,) if quick else (128, 256):
        batch = faces(112, count)
        for use, generator in generators(context):
            rows += share_of_a_step(f"{use}, {count}", generator, step, batch, quick=quick)
            if hasattr(generator, "compile"):
                generator.compile()
                rows += share_of_a_step(f"{use}, {count}, compiled", generator, step, batch, quick=quick)
    return rows


if __name__ == "__main__":
    main(compare, on_cuda=compare_on_cuda)
