from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from occframe import BuildContext, FaceBatch
from occframe.plugins import PluginRegistry
from occframe.random import derive_seed
from occframe_occlusions.configs import RectanglesConfig
from occframe_occlusions.patterns import textures
from occframe_occlusions.rectangles import Rectangles, build


class Faces:
    """Eight faces of one grey each: 100 + row."""

    aligned, landmarks, attributes = True, None, {}

    def __init__(self, ids=tuple("abcdefgh")):
        self.ids, self.subjects, self.blocks = list(ids), list(ids), [range(len(ids))]

    def read(self, rows):
        return [np.full((20, 20, 3), 100 + "abcdefgh".index(self.ids[row]), np.uint8) for row in rows]

    def fingerprint(self):
        return "faces"


def batch_of(count, height=40, width=32, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return FaceBatch(images=torch.from_numpy(images).permute(0, 3, 1, 2), index=torch.arange(count))


def with_patches(**options) -> Rectangles:
    """As ``build`` makes it, with a data set in place of its block."""
    config = RectanglesConfig(**options).model_copy(update={"fills": ("patch",)})
    return Rectangles(config, Faces())


sizes = st.sampled_from([(5, 5), (40, 32), (17, 33), (9, 40)])
ranges = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple)
configs = st.builds(
    RectanglesConfig,
    coverage=ranges,
    aspect=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted).map(tuple),
    centre_x=ranges,
    centre_y=ranges,
    border=st.sampled_from(["inside", "clip"]),
    count=st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted).map(tuple),
    fills=st.sampled_from([("colour",), ("texture",), ("colour", "texture")]),
)


@settings(deadline=None)
@given(configs, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9), sizes)
def test_occlusion_keeps_its_promises(config, seeds, size):
    height, width = size
    batch = batch_of(len(seeds), height, width)
    before = batch.images.clone()
    generator = Rectangles(config)
    params = generator.sample(batch, torch.tensor(seeds))
    occluded = generator.apply(batch.images, params)
    assert torch.equal(batch.images, before)
    assert occluded.images.shape == before.shape
    assert occluded.images.dtype == torch.uint8
    assert occluded.mask.shape == (len(seeds), 1, height, width)
    assert occluded.mask.dtype == torch.float32
    assert set(occluded.mask.unique().tolist()) <= {0.0, 1.0}
    visible = (occluded.mask == 0).expand_as(before)
    assert torch.equal(occluded.images[visible], before[visible])
    assert (params.corner >= 0).all()
    assert (params.corner + params.size <= torch.tensor(size)).all()
    present = (params.size > 0).all(2).sum(1)
    assert ((present >= config.count[0]) & (present <= config.count[1])).all()
    assert (occluded.mask.flatten(1).sum(1) > 0).all()


@settings(deadline=None)
@given(configs, st.integers(1, 12), st.data())
def test_an_image_depends_on_its_own_seed_alone(config, count, data):
    batch, seeds = batch_of(count), torch.arange(count) * 7919
    generator = Rectangles(config)
    whole = generator.apply(batch.images, generator.sample(batch, seeds))
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), min_size=1)))
    part = FaceBatch(images=batch.images[chosen], index=batch.index[chosen])
    some = generator.apply(part.images, generator.sample(part, seeds[chosen]))
    assert torch.equal(some.images, whole.images[chosen])
    assert torch.equal(some.mask, whole.mask[chosen])


@settings(deadline=None, max_examples=40)
@given(configs, st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]), st.booleans())
def test_floats_and_other_layouts_give_the_same_picture(config, dtype, contiguous):
    batch = batch_of(6)
    generator = Rectangles(config)
    params = generator.sample(batch, torch.arange(6))
    expected = generator.apply(batch.images, params)
    if contiguous:
        again = generator.apply(batch.images.contiguous(), params)
        assert torch.equal(again.images, expected.images)
        assert torch.equal(again.mask, expected.mask)
    images = (batch.images.to(dtype) / 255).requires_grad_()
    floats = generator.apply(images, params)
    assert floats.images.dtype == dtype
    assert torch.equal(floats.mask, expected.mask)
    visible = (floats.mask == 0).expand_as(images)
    assert torch.equal(floats.images[visible], images[visible])
    assert (
        (floats.images.float() * 255 - expected.images.float()).abs() <= (1 if dtype != torch.bfloat16 else 2)
    ).all()
    floats.images.sum().backward()
    assert torch.equal(images.grad != 0, visible)


def test_both_paths_are_one_generator():
    batch = batch_of(32)
    generator = Rectangles(RectanglesConfig(count=(1, 3)))
    params = generator.sample(batch, torch.arange(32))
    fast, general = generator.apply(batch.images, params), generator._apply_anywhere(batch.images, params)
    assert torch.equal(fast.images, general.images)
    assert torch.equal(fast.mask, general.mask)
    assert fast.images.is_contiguous(memory_format=torch.channels_last)


def test_in_place_is_the_same_without_the_copy():
    batch = batch_of(16)
    generator = Rectangles(RectanglesConfig(count=(1, 3)))
    params = generator.sample(batch, torch.arange(16))
    expected = generator.apply(batch.images, params)
    found = generator.apply_(batch.images, params)
    assert found.images is batch.images
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.mask, expected.mask)


def test_coverage_is_the_area_that_was_asked_for():
    batch = batch_of(400, 112, 96)
    for low, high in ((0.1, 0.4), (0.25, 0.25), (0.9, 1.0)):
        generator = Rectangles(RectanglesConfig(coverage=(low, high), aspect=(0.3, 3)))
        covered = generator.apply(batch.images, generator.sample(batch, torch.arange(400))).mask.mean((1, 2, 3))
        assert covered.min() > low - 0.02
        assert covered.max() < high + 0.02
        assert covered.max() - covered.min() >= 0.9 * (high - low)


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1), st.integers(1, 5), st.integers(0, 2**40))
def test_several_rectangles_cover_what_one_would_also_where_they_overlap(asked, count, seed):
    batch = batch_of(6, 112, 112)
    generator = Rectangles(RectanglesConfig(severity=asked, count=(1, count), aspect=(0.2, 5)))
    covered = generator.apply(batch.images, generator.sample(batch, torch.arange(6) + seed)).mask.mean((1, 2, 3))
    assert (covered - asked).abs().max() <= 0.02


def test_parameters_are_the_same_on_every_machine():
    """Golden values: a change here makes other pictures of every stored recipe, and needs another version."""
    config = RectanglesConfig(count=(1, 3), aspect=(0.3, 3))
    params = Rectangles(config).sample(batch_of(4, 112, 112), torch.arange(4) + 10**12)
    assert params.corner.tolist() == [
        [[5, 7], [13, 64], [53, 24]],
        [[0, 85], [80, 48], [0, 3]],
        [[82, 60], [79, 108], [85, 92]],
        [[10, 22], [98, 68], [62, 27]],
    ]
    assert params.size.tolist() == [
        [[49, 15], [17, 42], [18, 40]],
        [[57, 27], [24, 64], [66, 23]],
        [[30, 52], [0, 0], [0, 0]],
        [[102, 43], [0, 0], [0, 0]],
    ]


def test_places_and_shapes_follow_the_ranges():
    batch = batch_of(300, 100, 100)
    options = {"coverage": (0.02, 0.05), "aspect": (2, 4), "centre_x": (0.3, 0.7), "centre_y": (0.0, 0.1)}
    params = Rectangles(RectanglesConfig(**options)).sample(batch, torch.arange(300))
    ratio = params.size[..., 1] / params.size[..., 0]
    assert ratio.min() > 1.7
    assert ratio.max() < 4.6
    centres = params.corner[..., 1] + params.size[..., 1] / 2
    assert centres.min() >= 29
    assert centres.max() <= 71
    assert (params.corner[..., 0] == 0).any()
    clipped = Rectangles(RectanglesConfig(**options, border="clip")).sample(batch, torch.arange(300))
    assert clipped.size.prod(2).sum() < params.size.prod(2).sum()


@pytest.mark.parametrize("fill", ["colour", "texture"])
def test_fills(fill):
    batch = batch_of(60, 64, 64)
    generator = Rectangles(RectanglesConfig(fills=(fill,), coverage=(0.3, 0.3)))
    occluded = generator.apply(batch.images, generator.sample(batch, torch.arange(60)))
    colours = [
        len(torch.unique(image.permute(1, 2, 0)[mask[0] > 0], dim=0))
        for image, mask in zip(occluded.images, occluded.mask, strict=True)
    ]
    assert max(colours) == 1 if fill == "colour" else min(colours) > 20
    seen = {
        tuple(image[:, mask[0] > 0][:, 0].tolist()) for image, mask in zip(occluded.images, occluded.mask, strict=True)
    }
    assert len(seen) > 40


def test_patches_are_cut_from_the_other_faces():
    batch = batch_of(200)
    generator = with_patches()
    occluded = generator.apply(batch.images, generator.sample(batch, torch.arange(200)))
    greys = occluded.images[occluded.mask.expand_as(occluded.images) > 0]
    assert set(greys.unique().tolist()) == set(range(100, 108))


def test_the_patch_pool_is_bounded_and_ignores_the_order_of_rows():
    config = RectanglesConfig(patch_pool=3).model_copy(update={"fills": ("patch",)})
    pools = []
    for ids in ("abcdefgh", "hgfedcba"):
        generator = Rectangles(config, Faces(ids))
        batch = batch_of(100)
        occluded = generator.apply(batch.images, generator.sample(batch, torch.arange(100)))
        pools.append(set(occluded.images[occluded.mask.expand_as(occluded.images) > 0].unique().tolist()))
    assert pools[0] == pools[1]
    assert len(pools[0]) == 3


def test_textures_differ_and_fit_any_size():
    made = textures(12, 30, 50)
    assert made.shape == (12, 30, 50, 3)
    assert made.dtype == np.uint8
    assert np.array_equal(made, textures(12, 30, 50))
    assert len({texture.tobytes() for texture in made}) == 12
    assert made.reshape(12, -1, 3).std(1).max(1).min() > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": (0.4, 0.1)}, "coverage: 0.4 is more than 0.1"),
        ({"coverage": (0.0, 0.1)}, "greater than 0"),
        ({"coverage": (0.1, 1.1)}, "less than or equal to 1"),
        ({"count": (0, 1)}, "greater than or equal to 1"),
        ({"count": (3, 2)}, "count: 3 is more than 2"),
        ({"fills": ()}, "at least 1"),
        ({"fills": ("color",)}, "'colour', 'texture' or 'patch'"),
        ({"fills": ("patch",)}, "need each other"),
        ({"border": "wrap"}, "'inside' or 'clip'"),
        ({"covrage": (0.1, 0.2)}, "did you mean|covrage"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValidationError, match=message):
        RectanglesConfig(**options)


def test_it_is_built_from_a_pipelines_block():
    registry = PluginRegistry.discover()
    component = registry.find("occlusion", "rectangles")
    block = {
        "coverage": [0.2, 0.2],
        "fills": ["colour", "patch"],
        "patches": {"use": "synthetic", "identities": 4, "images": 2, "size": 32},
    }
    config = component.load_config().model_validate(block, context={"registry": registry})
    generator = component.load_factory()(config, BuildContext(registry))
    batch = batch_of(8)
    seeds = torch.tensor([derive_seed("test", at) for at in range(8)])
    assert generator.apply(batch.images, generator.sample(batch, seeds)).mask.mean() > 0.15
    assert component.load_factory() is build


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_picture():
    batch = batch_of(64, 112, 112)
    generator = Rectangles(RectanglesConfig(count=(1, 3)))
    seeds = torch.arange(64)
    expected = generator.apply(batch.images, generator.sample(batch, seeds))
    there = FaceBatch(images=batch.images.cuda(), index=batch.index.cuda())
    found = generator.apply(there.images, generator.sample(there, seeds.cuda()))
    assert torch.equal(found.images.cpu(), expected.images)
    assert torch.equal(found.mask.cpu(), expected.mask)
