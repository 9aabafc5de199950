"""What an image-to-image network promises: see ``occframe.types.Generator``."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from torch import Tensor, nn

from occframe.testing.check import Inapplicable, check, require
from occframe.testing.networks import close, difference, fresh_copy_of, livelier, safetensors_bytes
from occframe.testing.samples import face_batch
from occframe.testing.subject import Subject
from occframe.types import GeneratorOutput, ImageSpec

COUNT = 3


def _inputs(height: int, width: int) -> Tensor:
    """Faces, [COUNT, 3, H, W] float32 in -1..1; the first black, the second white."""
    images = face_batch(COUNT, height=height, width=width).images.float() / 127.5 - 1
    images[0], images[1] = -1.0, 1.0
    return images


def _lively(subject: Subject) -> Any:
    """The network in evaluation mode, its batch norms with figures of their own; kept for the next check."""
    if not hasattr(subject, "lively"):
        subject.lively = livelier(subject.build(), _inputs(32, 32))  # type: ignore[attr-defined]
    return subject.lively  # type: ignore[attr-defined]


def _output(network: Any, images: Tensor) -> GeneratorOutput:
    with torch.no_grad():
        found = network(images)
    require(isinstance(found, GeneratorOutput), f"it returned {type(found).__name__}, not GeneratorOutput")
    return found  # type: ignore[no-any-return]


@check()
def is_a_module(subject: Subject) -> None:
    """The factory gives an ``nn.Module`` in training mode with an ``image_spec`` of mean and std 0.5."""
    network = subject.build()
    require(isinstance(network, nn.Module), f"the factory gave {type(network).__name__}, not an nn.Module")
    require(network.training, "it comes in evaluation mode")
    spec = getattr(network, "image_spec", None)
    require(isinstance(spec, ImageSpec), f"image_spec is {spec!r}")
    assert spec is not None
    halves = all(value == 0.5 for value in (*spec.mean, *spec.std))
    require(halves, f"image_spec has mean {spec.mean} and std {spec.std}; images in -1..1 have 0.5")


@check()
def images_keep_size_and_range(subject: Subject) -> None:
    """Images of any size from 8 x 8 on come back as large, float32, finite and in -1..1."""
    network = _lively(subject)
    for height, width in ((network.image_spec.height, network.image_spec.width), (8, 8), (40, 24), (19, 33)):
        found = _output(network, _inputs(height, width)).images
        wanted = [COUNT, 3, height, width]
        require(list(found.shape) == wanted, f"{wanted} became {list(found.shape)}")
        require(found.dtype == torch.float32, f"images are {found.dtype}")
        require(bool(found.isfinite().all()), "a pixel is not finite")
        require(found.abs().max() <= 1 + 1e-5, f"pixels span {found.min():.3g}..{found.max():.3g}, not -1..1")


@check()
def alpha_says_what_is_new(subject: Subject) -> None:
    """``alpha``, where it is given, is [B, 1, H, W] in 0..1, and pixels with alpha 0 are the input's."""
    network, images = _lively(subject), _inputs(32, 32)
    found = _output(network, images)
    if found.alpha is None:
        raise Inapplicable("it gives no alpha: every pixel is drawn anew")
    require(list(found.alpha.shape) == [COUNT, 1, 32, 32], f"alpha has the shape {list(found.alpha.shape)}")
    require(found.alpha.min() >= 0 and found.alpha.max() <= 1, "alpha is not in 0..1")
    changed = (found.images != images).any(dim=1, keepdim=True) & (found.alpha == 0)
    require(not changed.any(), f"{int(changed.sum())} pixels changed where alpha is 0")


@check()
def eval_is_batch_independent(subject: Subject) -> None:
    """In evaluation, the result for an image does not depend on its neighbours."""
    network, images = _lively(subject), _inputs(32, 32)
    whole = _output(network, images).images
    alone = torch.cat([_output(network, images[row : row + 1]).images for row in range(COUNT)])
    require(close(whole, alone), f"alone and in a batch differ by {difference(whole, alone)}")


@check()
def eval_is_deterministic(subject: Subject) -> None:
    """In evaluation, the same image gives the same result twice, and nothing in the network changes."""
    network, images = _lively(subject), _inputs(32, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    one, two = (_output(network, images).images for _ in range(2))
    require(torch.equal(one, two), f"two passes differ by {difference(one, two)}")
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    require(not moved, f"evaluation changed {', '.join(moved[:4])}")


@check()
def input_is_untouched(subject: Subject) -> None:
    """The images given are left as they were."""
    images = _inputs(32, 32)
    before = images.clone()
    _output(_lively(subject), images)
    require(torch.equal(images, before), "the images that it was given changed")


@check()
def safetensors_round_trip(subject: Subject) -> None:
    """Weights written as safetensors and loaded into a new network give the same images."""
    network, images = _lively(subject), _inputs(32, 32)
    other = fresh_copy_of(subject, safetensors_bytes(network)).eval()
    one, two = _output(network, images).images, _output(other, images).images
    require(torch.equal(one, two), f"the loaded network differs by {difference(one, two)}: is all of it in state_dict?")


@check(tier="extra")
def is_picklable(subject: Subject) -> None:
    """The network can be sent to another process."""
    images = _inputs(32, 32)
    copy = pickle.loads(pickle.dumps(_lively(subject)))
    require(
        torch.equal(_output(_lively(subject), images).images, _output(copy, images).images), "a copy computes otherwise"
    )


@check()
def discriminator_scores_images(subject: Subject) -> None:
    """``discriminator()`` gives a new module: images of the training size in, finite scores [B, …] out."""
    network = _lively(subject)
    critic = network.discriminator()
    require(isinstance(critic, nn.Module), f"discriminator() gave {type(critic).__name__}, not an nn.Module")
    require(critic is not network.discriminator(), "discriminator() gave the same module twice")
    with torch.no_grad():
        scores = critic(_inputs(network.image_spec.height, network.image_spec.width))
    require(isinstance(scores, Tensor) and len(scores) == COUNT, "the discriminator gives no scores [B, …]")
    require(bool(scores.isfinite().all()), "a score is not finite")


@check(needs="grad")
def gradients_reach_every_weight(subject: Subject) -> None:
    """In training, every weight that asks for a gradient can get one, and it is finite."""
    network = subject.build()
    found = network(_inputs(network.image_spec.height, network.image_spec.width)).images
    found.square().mean().backward()
    weights = [(name, weight.grad) for name, weight in network.named_parameters() if weight.requires_grad]
    without = [name for name, gradient in weights if gradient is None]
    require(not without, f"no gradient reaches {', '.join(without[:4])}")
    bad = [name for name, gradient in weights if gradient is not None and not gradient.isfinite().all()]
    require(not bad, f"the gradient is not finite in {', '.join(bad[:4])}")


@check()
def generate_form_agrees(subject: Subject) -> None:
    """``generate_form``, where it is offered, gives the same images."""
    network, images = _lively(subject), _inputs(32, 32)
    if not hasattr(network, "generate_form"):
        raise Inapplicable("it offers no `generate_form`")
    expected = _output(network, images).images
    found = _output(network.generate_form().eval(), images).images
    require(close(found, expected, 1e-3), f"it differs by {difference(found, expected)}")


@check(needs="gpu", cuda=True)
def gpu_equals_cpu(subject: Subject) -> None:
    """On CUDA the images are those of the CPU, up to a quarter of a grey level of 255."""
    # Without the black and the white one: an instance norm divides the rounding errors of a flat picture by themselves.
    network, images = _lively(subject), _inputs(32, 32)[2:]
    moved = fresh_copy_of(subject, safetensors_bytes(network)).eval().cuda()
    one, two = _output(network, images).images, _output(moved, images.cuda()).images.cpu()
    require((one - two).abs().max() <= 2e-3, f"they differ by {difference(one, two)}")
