"""A picture photographed once more: what stays, what becomes coarse, and that pairs stay pairs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occframe.data.camera import compressed, photographed
from occframe.random import id_seeds

SIDE = 48


def seeds(count: int) -> Tensor:
    return torch.from_numpy(id_seeds([f"face {number}" for number in range(count)]))


def faces(count: int, seed: int = 0, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Smooth pictures in colour, as photographs are."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(30, 220, (count, 5, 5, 3), np.uint8)
    pictures = np.stack([cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC) for picture in coarse])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(9, 40), st.integers(9, 40), st.integers(1, 5), st.integers(0, 2**62), st.sampled_from([0, 7, 255]))
def test_any_size_and_colour_gives_a_picture(height, width, count, seed, value):
    images = torch.full((count, 3, height, width), value, dtype=torch.uint8)
    made = photographed(images, torch.arange(count) + seed)
    assert made.shape == images.shape
    assert made.dtype == torch.uint8
    assert (images == value).all()


def test_a_picture_does_not_depend_on_its_batch():
    images, drawn = faces(6), seeds(6)
    together = photographed(images, drawn).int()
    alone = torch.cat([photographed(images[row : row + 1], drawn[row : row + 1]) for row in range(6)]).int()
    assert (together - alone).abs().float().mean() < 0.01


def test_every_seed_photographs_in_its_own_way_and_always_the_same():
    images, drawn = faces(1).expand(20, -1, -1, -1), seeds(20)
    made = photographed(images, drawn)
    assert len({bytes(picture.numpy().tobytes()) for picture in made}) == 20
    assert torch.equal(made, photographed(images, drawn))


def test_what_was_put_on_changes_its_surroundings_and_nothing_beyond():
    clean = faces(40, height=64, width=64)
    worn = clean.clone()
    worn[:, :, 28:36, 28:36] = 0
    before, after = (photographed(images, seeds(40)).int() for images in (clean, worn))
    changed = (before - after).abs().amax(dim=1) > 0
    # Two blocks of JPEG and the reach of the blur.
    assert not changed[:, :8].any()
    assert not changed[:, :, -8:].any()
    assert changed[:, 28:36, 28:36].float().mean() > 0.95


def test_colours_lose_their_edges_more_than_light():
    def steepest(left: tuple[int, int, int], right: tuple[int, int, int], channel: int) -> float:
        """The largest step between two columns as a share of the whole rise, meant over cameras; 1 before them."""
        images = torch.zeros(60, 3, SIDE, SIDE, dtype=torch.uint8)
        images[:, :, :, :24], images[:, :, :, 24:] = (torch.tensor(side)[:, None, None] for side in (left, right))
        made = photographed(images, seeds(60)).float()
        difference = made[:, channel] - made[:, 1] if left[0] != left[1] else made[:, channel]
        edge = difference.mean(dim=1)
        return float((edge.diff().abs().amax(dim=1) / (edge[:, -1] - edge[:, 0]).abs().clamp(min=1)).mean())

    light = steepest((90, 90, 90), (170, 170, 170), 0)
    colour = steepest((170, 110, 128), (90, 144, 128), 0)
    assert light > 0.75
    assert colour < 0.8 * light


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_light_is_compressed_as_libjpeg_does_it(quality):
    draw = np.random.default_rng(quality)
    picture = cv2.GaussianBlur(draw.integers(0, 256, (SIDE, SIDE), np.uint8), (0, 0), 1.5)
    theirs = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    ycc = torch.zeros(1, 3, SIDE, SIDE)
    ycc[0, 0] = torch.from_numpy(picture).float() - 128
    nowhere = torch.zeros(1, 1, dtype=torch.int64)
    ours = compressed(ycc, torch.tensor([[float(quality)]]), nowhere, nowhere)[0, 0].numpy() + 128
    lost = np.abs(picture.astype(float) - theirs).mean()
    assert np.abs(ours.clip(0, 255).round() - theirs).mean() < lost / 2


@given(st.integers(0, 7), st.integers(0, 7), st.integers(17, 30), st.integers(17, 30))
@settings(max_examples=20, deadline=None)
def test_fine_steps_keep_the_picture_wherever_blocks_begin(down, right, height, width):
    ycc = faces(1, 3, height, width).float()
    moved = compressed(ycc, torch.tensor([[99.0]]), torch.tensor([[down]]), torch.tensor([[right]]))
    assert (moved - ycc).abs().max() < 6
    assert (moved - ycc).abs().mean() < 1
