"""What a backbone promises: see ``occframe.types.Backbone``."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from torch import Tensor, nn

from occframe.testing.check import CheckFailed, Inapplicable, check, require
from occframe.testing.networks import (
    close,
    difference,
    fresh_copy_of,
    livelier,
    safetensors_bytes,
)
from occframe.testing.subject import Subject
from occframe.types import BackboneOutput, FeatureInfo, ImageSpec

COUNT = 3


def _inputs(network: Any, count: int = COUNT, seed: int = 0) -> Tensor:
    """Model inputs of the declared size, [count, 3, H, W] float32."""
    spec = network.image_spec
    return torch.rand(count, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _output(network: Any, images: Tensor) -> BackboneOutput:
    with torch.no_grad():
        found = network(images)
    require(isinstance(found, BackboneOutput), f"it returned {type(found).__name__}, not BackboneOutput")
    return found  # type: ignore[no-any-return]


def _lively(subject: Subject) -> Any:
    """The network in evaluation mode, its batch norms with figures of their own; kept for the next check."""
    if not hasattr(subject, "lively"):
        network = subject.build()
        subject.lively = livelier(network, _inputs(network, 8))  # type: ignore[attr-defined]
    return subject.lively  # type: ignore[attr-defined]


@check()
def is_a_module(subject: Subject) -> None:
    """The factory gives an ``nn.Module`` in training mode with ``image_spec``, ``embedding_dim``, ``feature_info``."""
    network = subject.spare
    require(isinstance(network, nn.Module), f"the factory gave {type(network).__name__}, not an nn.Module")
    require(network.training, "it comes in evaluation mode: training would not update its batch norms")
    for name, kind in {"image_spec": ImageSpec, "embedding_dim": int}.items():
        require(isinstance(getattr(network, name, None), kind), f"{name} is {getattr(network, name, None)!r}")
    infos = getattr(network, "feature_info", None)
    require(infos is not None and all(isinstance(item, FeatureInfo) for item in infos), "feature_info is missing")


@check()
def image_spec_is_honest(subject: Subject) -> None:
    """It takes images of the size it declares; mean and std are sane; every colour channel counts."""
    network, spec = _lively(subject), _lively(subject).image_spec
    require(spec.colour in ("RGB", "BGR"), f"colour is {spec.colour!r}")
    # Inputs are (x / 255 - mean) / std: figures of 0..255 would make every input nearly the same.
    require(all(0 <= value <= 1 for value in spec.mean), f"mean {spec.mean} is not of images in 0..1")
    require(all(0 < value <= 1 for value in spec.std), f"std {spec.std} is not of images in 0..1")
    images = _inputs(network)
    try:
        found = _output(network, images).embedding
    except Exception as error:
        raise CheckFailed(
            f"it does not take [{COUNT}, 3, {spec.height}, {spec.width}], the size of its ImageSpec: {error}"
        ) from error
    for number, colour in enumerate(spec.colour):
        without = images.clone()
        without[:, number] = 0
        require(not torch.equal(_output(network, without).embedding, found), f"the channel {colour} plays no part")


@check()
def embedding_has_its_shape(subject: Subject) -> None:
    """The embedding is [B, embedding_dim], floating point, in evaluation and in training."""
    network = subject.spare
    for mode in (False, network.training):
        found = _output(network.train(mode), _inputs(network)).embedding
        wanted = [COUNT, network.embedding_dim]
        require(list(found.shape) == wanted, f"the embedding has the shape {list(found.shape)}, not {wanted}")
        require(found.is_floating_point(), f"the embedding is {found.dtype}")


@check()
def output_is_finite(subject: Subject) -> None:
    """Black, white and random images give finite numbers."""
    network = _lively(subject)
    images = _inputs(network)
    images[0], images[1] = -1.0, 1.0
    found = _output(network, images)
    for name, tensor in {"embedding": found.embedding, **found.extras}.items():
        require(bool(tensor.isfinite().all()), f"{name} is not finite")


@check()
def eval_is_batch_independent(subject: Subject) -> None:
    """In evaluation, an image's embedding does not depend on its neighbours (batch norms in training mode do that)."""
    network = _lively(subject)
    images = _inputs(network)
    whole = _output(network, images).embedding
    alone = torch.cat([_output(network, images[row : row + 1]).embedding for row in range(COUNT)])
    require(close(whole, alone), f"alone and in a batch differ by {difference(whole, alone)}")


@check()
def eval_is_deterministic(subject: Subject) -> None:
    """In evaluation, the same image gives the same embedding twice, and nothing in the network changes."""
    network = _lively(subject)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    one, two = (_output(network, _inputs(network)).embedding for _ in range(2))
    require(torch.equal(one, two), f"two passes differ by {difference(one, two)}")
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    require(not moved, f"evaluation changed {', '.join(moved[:4])}")


@check()
def images_matter(subject: Subject) -> None:
    """Different images have different embeddings."""
    found = _output(_lively(subject), _inputs(_lively(subject))).embedding
    require(not close(found[0], found[1]), "two random images have the same embedding")


@check()
def feature_maps_are_as_declared(subject: Subject) -> None:
    """``features`` are as ``feature_info`` says: [B, channels, H/stride, W/stride], one each."""
    network, spec = _lively(subject), _lively(subject).image_spec
    features = _output(network, _inputs(network)).features
    infos = list(network.feature_info)
    require(len(features) == len(infos), f"{len(features)} maps, {len(infos)} declared")
    for info, found in zip(infos, features, strict=True):
        wanted = [COUNT, info.channels, -(-spec.height // info.stride), -(-spec.width // info.stride)]
        require(list(found.shape) == wanted, f"map `{info.name}` has the shape {list(found.shape)}, not {wanted}")


@check()
def safetensors_round_trip(subject: Subject) -> None:
    """Weights written as safetensors and loaded into a new network give the same embeddings."""
    network = _lively(subject)
    other = fresh_copy_of(subject, safetensors_bytes(network)).eval()
    images = _inputs(network)
    one, two = _output(network, images).embedding, _output(other, images).embedding
    require(torch.equal(one, two), f"the loaded network differs by {difference(one, two)}: is all of it in state_dict?")


@check(tier="extra")
def is_picklable(subject: Subject) -> None:
    """The network can be sent to another process."""
    network = _lively(subject)
    copy = pickle.loads(pickle.dumps(network))
    images = _inputs(network)
    require(
        torch.equal(_output(network, images).embedding, _output(copy, images).embedding), "a copy computes otherwise"
    )


@check(needs="grad")
def gradients_reach_every_weight(subject: Subject) -> None:
    """In training, every weight that asks for a gradient can get one, and it is finite."""
    network = subject.spare
    output = network(_inputs(network))
    seen = [output.embedding, *(value for value in output.extras.values() if value.requires_grad)]
    torch.stack([tensor.square().sum() for tensor in seen]).sum().backward()  # type: ignore[no-untyped-call]
    without = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    require(not without, f"no gradient reaches {', '.join(without[:4])}")
    bad = [
        name
        for name, weight in network.named_parameters()
        if weight.grad is not None and not weight.grad.isfinite().all()
    ]
    require(not bad, f"the gradient is not finite in {', '.join(bad[:4])}")
    network.zero_grad()


@check(needs="split")
def split_is_the_network(subject: Subject) -> None:
    """``forward_features`` gives the declared maps, and ``forward_head`` of the deepest one the embedding."""
    network = _lively(subject)
    images = _inputs(network)
    with torch.no_grad():
        output, maps = network(images), list(network.forward_features(images))
        head = network.forward_head(maps[-1])
    require(len(maps) == len(network.feature_info), f"{len(maps)} maps, {len(network.feature_info)} declared")
    require(
        close(head, output.embedding), f"head of the map and embedding differ by {difference(head, output.embedding)}"
    )


@check(needs="mask_output")
def extras_hold_the_mask(subject: Subject) -> None:
    """``extras["mask"]`` says what passed of each feature: finite, not negative, one an image."""
    found = _output(_lively(subject), _inputs(_lively(subject))).extras.get("mask")
    require(found is not None, "extras has no `mask`")
    assert found is not None
    require(len(found) == COUNT and found.ndim in (2, 4), f"the mask has the shape {list(found.shape)}")
    require(bool(found.isfinite().all()) and found.min() >= 0, "the mask is negative or not finite")


@check()
def forms_agree(subject: Subject) -> None:
    """``embed_form`` and ``explain_form``, where they are offered, give the same embedding."""
    network = _lively(subject)
    offered = [name for name in ("embed_form", "explain_form") if hasattr(network, name)]
    if not offered:
        raise Inapplicable("it offers no `embed_form` and no `explain_form`")
    images = _inputs(network)
    expected = _output(network, images).embedding
    for name in offered:
        found = _output(getattr(network, name)().eval(), images).embedding
        require(close(found, expected, 1e-3), f"{name} differs by {difference(found, expected)}")


@check()
def describes_its_columns(subject: Subject) -> None:
    """``describe``, where it is offered, gives the ``columns`` with their types, one figure or list an image."""
    network = _lively(subject)
    if not hasattr(network, "columns"):
        raise Inapplicable("it offers no `columns`")
    # As the ``embed`` step does: in the form for explaining, where there is one.
    form = network.explain_form().eval() if hasattr(network, "explain_form") else network
    said = form.describe(_output(form, _inputs(network)))
    require(set(said) == set(network.columns), f"it describes {sorted(said)}, and declares {sorted(network.columns)}")
    for name, kind in dict(network.columns).items():
        require(kind in ("int64", "float64", "list<float>"), f"{name} is declared as {kind!r}")
        shape, wanted = list(said[name].shape), f"[{COUNT}, n]" if kind == "list<float>" else f"[{COUNT}]"
        fits = shape[:1] == [COUNT] and len(shape) == (2 if kind == "list<float>" else 1)
        require(fits, f"{name} has the shape {shape}, not {wanted}")
        require((kind != "int64") == said[name].is_floating_point(), f"{name} is {said[name].dtype}, declared {kind}")


@check(tier="extra")
def embedding_survives_autocast(subject: Subject) -> None:
    """Under bfloat16 autocast the embedding is finite and points where it did in float32."""
    network = _lively(subject)
    images = _inputs(network)
    expected = _output(network, images).embedding
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _output(network, images).embedding.float()
    require(bool(found.isfinite().all()), "it is not finite")
    cosine = nn.functional.cosine_similarity(found, expected).min()
    require(cosine > 0.8, f"the cosine to the float32 embedding is {cosine:.3f}")


@check(tier="extra")
def the_seed_decides_the_weights(subject: Subject) -> None:
    """The context's seed gives the same weights again, and torch's global random state is left alone."""
    first, before = dict(subject.spare.named_parameters()), torch.get_rng_state()
    again = dict(subject.build().named_parameters())
    require(torch.equal(before, torch.get_rng_state()), "building moved torch's global random state")
    unlike = [name for name, value in first.items() if not torch.equal(value, again[name])]
    require(not unlike, f"the same seed gives other weights: {', '.join(unlike[:4])}")


@check(needs="export")
def export_is_equal(subject: Subject) -> None:
    """``torch.export`` takes the network, and what it gives computes the same embedding."""
    network = _lively(subject)

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return self.network(images).embedding  # type: ignore[no-any-return]

    images = _inputs(network)
    exported = torch.export.export(Embedding().eval(), (images,)).module()
    with torch.no_grad():
        found, expected = exported(images), network(images).embedding
    require(close(found, expected), f"the exported network differs by {difference(found, expected)}")


@check(needs="gpu", cuda=True)
def gpu_equals_cpu(subject: Subject) -> None:
    """On CUDA the embedding points where it does on the CPU."""
    network = _lively(subject)
    images = _inputs(network)
    expected = _output(network, images).embedding
    moved = fresh_copy_of(subject, safetensors_bytes(network)).eval().cuda()
    found = _output(moved, images.cuda()).embedding
    require(found.is_cuda, "the embedding is not on the device of the images")
    cosine = nn.functional.cosine_similarity(found.cpu().float(), expected).min()
    require(cosine > 0.999, f"the cosine to the embedding on the CPU is {cosine:.4f}")
