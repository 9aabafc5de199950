"""What an occlusion generator promises: see ``occframe.types.OcclusionGenerator``."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from occframe.testing.check import Inapplicable, check, require
from occframe.testing.samples import face_batch, rows_of
from occframe.testing.subject import Subject
from occframe.trees import mapped, tensors_in
from occframe.types import FaceBatch, Occluded

COUNT = 5
#: Higher than wide, so that a generator that mixes the two up shows.
HEIGHT, WIDTH = 48, 40


def _faces() -> FaceBatch:
    return face_batch(COUNT, height=HEIGHT, width=WIDTH)


def _seeds() -> Tensor:
    return torch.arange(COUNT) * 7919 + 2**33 + 11


def _occlude(generator: Any, batch: FaceBatch, seeds: Tensor) -> Occluded:
    found = generator.apply(batch.images, generator.sample(batch, seeds))
    require(isinstance(found, Occluded), f"apply returned {type(found).__name__}, not Occluded")
    return found  # type: ignore[no-any-return]


def _same(one: Occluded, other: Occluded) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.mask, other.mask)


@check()
def keeps_shape_and_dtype(subject: Subject) -> None:
    """Images come back with the shape and dtype they came with, uint8 or float."""
    batch = _faces()
    params = subject.built.sample(batch, _seeds())
    for images in (batch.images, batch.images.float() / 255):
        found = subject.built.apply(images, params)
        require(isinstance(found, Occluded), f"apply returned {type(found).__name__}, not Occluded")
        before, after = (images.dtype, list(images.shape)), (found.images.dtype, list(found.images.shape))
        require(before == after, f"images {before} became {after}")


@check()
def mask_is_alpha(subject: Subject) -> None:
    """The mask, and every part, is float32 [B, 1, H, W] in 0..1 and finite."""
    found = _occlude(subject.built, _faces(), _seeds())
    for name, mask in {"mask": found.mask, **found.parts}.items():
        require(list(mask.shape) == [COUNT, 1, HEIGHT, WIDTH], f"{name} has the shape {list(mask.shape)}")
        require(mask.dtype == torch.float32, f"{name} is {mask.dtype}, not float32")
        require(bool(mask.isfinite().all()), f"{name} is not finite")
        require(mask.min() >= 0 and mask.max() <= 1, f"{name} spans {mask.min():.3g}..{mask.max():.3g}, not 0..1")


@check()
def float_images_stay_in_range(subject: Subject) -> None:
    """Float images in 0..1 stay finite and in 0..1."""
    batch = _faces()
    images = subject.built.apply(batch.images.float() / 255, subject.built.sample(batch, _seeds())).images
    require(bool(images.isfinite().all()), "a pixel is not finite")
    require(images.min() >= 0 and images.max() <= 1, f"pixels span {images.min():.3g}..{images.max():.3g}, not 0..1")


@check()
def changed_pixels_have_alpha(subject: Subject) -> None:
    """A pixel with alpha 0 is bit-identical to the input, for uint8 and float images."""
    batch = _faces()
    params = subject.built.sample(batch, _seeds())
    for images in (batch.images, batch.images.float() / 255):
        before = images.clone()
        found = subject.built.apply(images, params)
        changed = (found.images != before).any(dim=1, keepdim=True) & (found.mask == 0)
        require(not changed.any(), f"{int(changed.sum())} {images.dtype} pixels changed where the mask is 0")


@check()
def occludes_something(subject: Subject) -> None:
    """With its example, some pixel of some image is covered; else no other check says anything."""
    require(_occlude(subject.built, _faces(), _seeds()).mask.any(), "no pixel of five faces is covered")


@check()
def input_is_untouched(subject: Subject) -> None:
    """Neither images, landmarks nor parameters are changed by ``sample`` and ``apply``."""
    batch = _faces()
    before = {name: value.clone() for name, value in vars(batch).items() if value is not None}
    params = subject.built.sample(batch, _seeds())
    kept = [tensor.clone() for tensor in tensors_in(params)]
    subject.built.apply(batch.images, params)
    for name, value in before.items():
        require(torch.equal(value, getattr(batch, name)), f"{name} of the batch changed")
    unchanged = all(torch.equal(one, other) for one, other in zip(kept, tensors_in(params), strict=True))
    require(unchanged, "apply changed its parameters: they could not be replayed")


@check()
def a_seed_decides_everything(subject: Subject) -> None:
    """The same images and seeds give the same result, in another instance too; global random state plays no part."""
    batch = _faces()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = _occlude(subject.built, batch, _seeds())
        torch.manual_seed(2)
        again = _occlude(subject.build(), batch, _seeds())
    require(_same(first, again), "a second draw with the same seeds looks different: draw from the seeds alone")


@check()
def batch_split_changes_nothing(subject: Subject) -> None:
    """Image i depends on seeds[i] and its own content only: alone, in another order, in a batch of another size."""
    batch, seeds = _faces(), _seeds()
    whole = _occlude(subject.built, batch, seeds)
    for rows in ([0], [3], [4, 1], [2, 4, 0, 3, 1]):
        part = _occlude(subject.built, rows_of(batch, rows), seeds[rows])
        same = torch.equal(part.images, whole.images[rows]) and torch.equal(part.mask, whole.mask[rows])
        require(same, f"images {rows} look different when they come as a batch of {len(rows)}")


@check()
def severity_0_is_identity(subject: Subject) -> None:
    """An option ``severity`` set to 0 leaves every image as it was, with an empty mask."""
    if "severity" not in subject.model.model_fields:
        raise Inapplicable("it has no option `severity`")
    generator = subject.build(subject.validate({**subject.written, "severity": 0.0}))
    batch = _faces()
    found = _occlude(generator, batch, _seeds())
    require(torch.equal(found.images, batch.images), "an image changed")
    require(not found.mask.any(), "the mask is not empty")


@check()
def works_without_landmarks(subject: Subject) -> None:
    """A batch without landmarks is occluded, or refused with an OccframeError that says what is missing."""
    from occframe.errors import OccframeError

    try:
        _occlude(subject.built, replace(_faces(), landmarks=None), _seeds())
    except OccframeError:
        return


@check()
def is_picklable(subject: Subject) -> None:
    """A worker process that is handed the generator draws the same."""
    batch = _faces()
    copy = pickle.loads(pickle.dumps(subject.built))
    require(_same(_occlude(subject.built, batch, _seeds()), _occlude(copy, batch, _seeds())), "a copy draws otherwise")


@check()
def in_place_agrees(subject: Subject) -> None:
    """``apply_``, where it is offered, gives what ``apply`` gives."""
    if not hasattr(subject.built, "apply_"):
        raise Inapplicable("it offers no `apply_`")
    batch = _faces()
    params = subject.built.sample(batch, _seeds())
    expected = subject.built.apply(batch.images, params)
    require(_same(subject.built.apply_(batch.images.clone(), params), expected), "apply_ and apply differ")


@check(tier="extra")
def float_and_uint8_agree(subject: Subject) -> None:
    """Float images are occluded as uint8 ones are, up to rounding."""
    batch = _faces()
    params = subject.built.sample(batch, _seeds())
    coarse = subject.built.apply(batch.images, params).images.float()
    fine = subject.built.apply(batch.images.float() / 255, params).images * 255
    require((coarse - fine).abs().max() <= 1.01, f"they differ by {(coarse - fine).abs().max():.1f} of 255")


@check(tier="extra")
def leaves_global_random_state(subject: Subject) -> None:
    """Drawing does not use up random numbers of the training around it."""
    before = torch.get_rng_state()
    _occlude(subject.build(), _faces(), _seeds())
    require(torch.equal(before, torch.get_rng_state()), "torch's global random state moved")


@check(needs="gpu", cuda=True)
def gpu_equals_cpu(subject: Subject) -> None:
    """On CUDA the parameters are the same bits, images differ by rounding at most."""
    batch, seeds = _faces(), _seeds()
    moved = replace(batch, **{name: value.cuda() for name, value in vars(batch).items() if value is not None})
    here = subject.built.sample(batch, seeds)
    there = subject.built.sample(moved, seeds.cuda())
    same = all(torch.equal(one, other.cpu()) for one, other in zip(tensors_in(here), tensors_in(there), strict=True))
    require(same, "the parameters drawn on CUDA differ")
    # As in training: drawn on the host, applied where the images are.
    carried = mapped(here, lambda tensor: tensor.cuda())
    one, two = subject.built.apply(batch.images, here), subject.built.apply(moved.images, carried)
    require(two.images.is_cuda and two.mask.is_cuda, "the result is not on the device of the images")
    require((one.images.int() - two.images.cpu().int()).abs().max() <= 1, "an image differs by more than rounding")
    require((one.mask - two.mask.cpu()).abs().max() <= 1 / 255, "the mask differs by more than rounding")
