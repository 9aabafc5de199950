"""Occlusions recorded for any number of faces: the pictures that they have without."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from occframe.component import OcclusionBlock
from occframe.data.transfer import packed, unpacked
from occframe.standalone import parse_block, standalone_context
from occframe.types import FaceBatch
from occframe_datasets.synthetic import SyntheticFaces
from occframe_occlusions import fused, painted
from occframe_occlusions.devices import recording
from occframe_occlusions.examples import face_sprite_folder

SIDE = 56


def faces(count: int) -> FaceBatch:
    drawn = SyntheticFaces(identities=count, images=1, size=SIDE, seed=3)
    images = torch.stack([torch.tensor(picture) for picture in drawn.read(list(range(count)))]).permute(0, 3, 1, 2)
    return FaceBatch(images=images, index=torch.arange(count))


def generator(written: Any) -> Any:
    context = standalone_context()
    return context.build(
        parse_block(OcclusionBlock, {"use": written} if isinstance(written, str) else written, context)
    )


def assert_same_pictures(written: Any, counts: tuple[int, ...]) -> None:
    plain, compiled = generator(written), generator(written)
    compiled.compile()
    for count in counts:
        batch = faces(count)
        params = plain.sample(batch, torch.arange(count) + 100 * count)
        expected, found = plain.apply(batch.images, params), compiled.apply(batch.images, params)
        assert (expected.images.int() - found.images.int()).abs().max() <= 1
        torch.testing.assert_close(found.mask, expected.mask, atol=1e-4, rtol=0)
        assert found.parts.keys() == expected.parts.keys()
        for name, alpha in expected.parts.items():
            torch.testing.assert_close(found.parts[name], alpha, atol=1e-4, rtol=0)
        changed = (found.images != batch.images).any(dim=1)
        assert not (changed & (found.mask[:, 0] == 0)).any()


# Those that look at their parameters to leave things out. Kernels are made of any of them alike, which takes longer.
@pytest.mark.parametrize("use", ["glasses", "dirt"])
def test_a_recording_is_of_any_parameters_and_any_number_of_faces(use, monkeypatch):
    monkeypatch.setattr(fused.torch, "compile", functools.partial(torch.compile, backend="eager"))
    assert_same_pictures(use, (6, 3, 1, 9))


@pytest.mark.parametrize("use", ["glasses", "blobs", "face-sprites"])
def test_whole_pictures_are_painted_as_windows_are(use, monkeypatch, tmp_path):
    """What a GPU does without a compiler, done here; in parts, as for more pictures than it holds."""
    written = {"use": use} | ({"url": str(face_sprite_folder(tmp_path))} if use == "face-sprites" else {})
    made, batch = generator(written), faces(5)
    params = made.sample(batch, torch.arange(5))
    expected = made.apply(batch.images, params)
    monkeypatch.setattr(painted, "may_look", lambda values: False)
    monkeypatch.setattr(painted, "_GPU_PIXELS", 2 * SIDE * SIDE)
    with recording():
        found = made.apply(batch.images, params)
        assert len(made.apply(batch.images[:0], {name: value[:0] for name, value in params.items()}).images) == 0
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.mask, expected.mask)
    assert found.parts.keys() == expected.parts.keys()
    for name, alpha in expected.parts.items():
        assert torch.equal(found.parts[name], alpha)


def test_kernels_paint_the_same_also_within_a_choice():
    assert_same_pictures({"use": "choice", "of": [{"occlusion": "eye-bar"}, {"occlusion": "rectangles"}]}, (9, 5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("use", ["glasses", "medical-mask"])
def test_a_gpus_kernels_paint_what_a_cpu_paints(use):
    plain, compiled = generator(use), generator(use)
    compiled.compile()
    for count in (8, 5):
        batch = faces(count)
        params = plain.sample(batch, torch.arange(count) + 7)
        expected, found = plain.apply(batch.images, params), compiled.apply(batch.images.cuda(), params)
        assert (expected.images.int() - found.images.cpu().int()).abs().max() <= 1
        torch.testing.assert_close(found.mask.cpu(), expected.mask, atol=1e-4, rtol=0)


def test_parameters_from_one_piece_of_memory_are_recorded_once(monkeypatch):
    graphs = []

    def noted(graph, inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(fused.torch, "compile", functools.partial(torch.compile, backend=noted))
    made = generator("eye-bar")
    made.compile()
    for count in (9, 6, 17, 3):
        batch = faces(count)
        parcel = packed(made.sample(batch, torch.arange(count)), pin=False)
        made.apply(batch.images, unpacked(parcel, torch.device("cpu")))
    assert len(graphs) == 1


def test_a_size_is_recorded_once(monkeypatch):
    recorded = []

    class Noted(fused.Fused):
        def _recorded(self, images, params):
            recorded.append(tuple(images.shape))
            return self._paint

    monkeypatch.setattr("occframe_occlusions.painted.Fused", Noted)
    bar = generator("eye-bar")
    bar.compile()
    for count in (4, 2, 4, 1):
        batch = faces(count)
        bar.apply(batch.images, bar.sample(batch, torch.arange(count)))
    assert recorded == [(4, 3, SIDE, SIDE)]
