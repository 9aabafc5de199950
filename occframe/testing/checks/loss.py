"""What a loss term promises: see ``occframe.types.LossTerm``."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from occframe.testing.check import Inapplicable, check, require
from occframe.testing.extras import extras_for
from occframe.testing.networks import close, difference
from occframe.testing.samples import occluded_batch, rows_of
from occframe.testing.subject import EMBEDDING_DIM, Subject
from occframe.types import BackboneOutput, FaceBatch

COUNT = 6
_FIELDS = frozenset({"identities", "landmarks", "mask", "clean", "teacher"})


def _given(subject: Subject) -> tuple[BackboneOutput, FaceBatch]:
    """A backbone's output with what the term needs, and the batch it belongs to; float32."""
    if not hasattr(subject, "given"):
        draw = torch.Generator().manual_seed(0)
        keys = sorted(need.partition(".")[2] for need in subject.built.needs if need.startswith("extras."))
        extras, batch = extras_for(subject, keys, COUNT) if keys else ({}, occluded_batch(COUNT, dim=EMBEDDING_DIM))
        output = BackboneOutput(torch.randn(COUNT, EMBEDDING_DIM, generator=draw), (), extras)
        subject.given = output, batch  # type: ignore[attr-defined]
    return subject.given  # type: ignore[attr-defined, no-any-return]


def _loss(term: Any, output: BackboneOutput, batch: FaceBatch) -> Tensor:
    found = term(output, batch)
    require(isinstance(found, Tensor), f"it returned {type(found).__name__}, not a Tensor")
    require(found.ndim == 0, f"it gave a tensor {list(found.shape)}, not a scalar: take the mean over the batch")
    return found  # type: ignore[no-any-return]


def _with_gradient(output: BackboneOutput, dtype: torch.dtype) -> tuple[BackboneOutput, list[Tensor]]:
    """The output as leaves of a graph, with the leaves: the embedding and every floating extra."""
    embedding = output.embedding.to(dtype, copy=True).requires_grad_()
    extras = {
        key: value.to(dtype, copy=True).requires_grad_() if value.is_floating_point() else value
        for key, value in output.extras.items()
    }
    leaves = [embedding, *(value for value in extras.values() if value.requires_grad)]
    return replace(output, embedding=embedding, extras=extras), leaves


@check()
def is_a_module(subject: Subject) -> None:
    """The factory gives an ``nn.Module`` with ``needs`` that a training can look up."""
    term = subject.build()
    require(isinstance(term, nn.Module), f"the factory gave {type(term).__name__}, not an nn.Module")
    needs = getattr(term, "needs", None)
    require(isinstance(needs, frozenset), f"needs is {needs!r}, not a frozenset")
    assert needs is not None
    strange = sorted(need for need in needs if need not in _FIELDS and not need.startswith("extras."))
    require(not strange, f"it needs {', '.join(strange)}; there are {', '.join(sorted(_FIELDS))} and extras.KEY")


@check()
def is_a_finite_scalar(subject: Subject) -> None:
    """A batch gives one finite number."""
    found = _loss(subject.built, *_given(subject))
    require(bool(found.isfinite()), f"the loss is {found.item()}")


@check()
def needs_what_it_declares(subject: Subject) -> None:
    """It works with what it declares and nothing else."""
    output, batch = _given(subject)
    absent: dict[str, Any] = dict.fromkeys(_FIELDS - subject.built.needs)
    _loss(subject.built, output, replace(batch, **absent))


@check()
def finite_at_extremes(subject: Subject) -> None:
    """Tiny, huge, equal and zero embeddings give a finite loss and finite gradients."""
    output, batch = _given(subject)
    embedding = output.embedding
    equal = embedding[:1].expand_as(embedding)
    for name, value in {
        "tiny": embedding * 1e-12,
        "huge": embedding * 1e6,
        "equal": equal,
        "zero": torch.zeros_like(embedding),
    }.items():
        found, leaves = _with_gradient(replace(output, embedding=value), torch.float32)
        loss = _loss(subject.built, found, batch)
        require(bool(loss.isfinite()), f"{name} embeddings give a loss of {loss.item()}")
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            finite = all(bool(item.isfinite().all()) for item in gradients if item is not None)
            require(finite, f"{name} embeddings give gradients that are not finite")


@check()
def permutation_changes_nothing(subject: Subject) -> None:
    """The order of the batch plays no part."""
    output, batch = _given(subject)
    order = [3, 1, 5, 0, 4, 2]
    moved = BackboneOutput(output.embedding[order], (), {key: value[order] for key, value in output.extras.items()})
    one, two = _loss(subject.built, output, batch), _loss(subject.built, moved, rows_of(batch, order))
    require(close(one, two), f"in another order the loss differs by {difference(one, two)}")


@check(needs="grad")
def gradient_is_right(subject: Subject) -> None:
    """In float64 the gradient equals finite differences."""
    output, batch = _given(subject)
    term = pickle.loads(pickle.dumps(subject.built)).double()
    floats = {
        name: value.double()
        for name, value in vars(batch).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    batch = replace(batch, **floats)
    found, leaves = _with_gradient(output, torch.float64)
    loss = _loss(term, found, batch)
    require(loss.requires_grad, "no gradient flows from the loss to the network's output")
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    draw = torch.Generator().manual_seed(2)
    # Along a few random directions: as telling as every coordinate, in a hundredth of the time.
    for _ in range(4):
        directions = [torch.randn(leaf.shape, generator=draw, dtype=torch.float64) for leaf in leaves]
        expected = _slope(term, output, batch, directions)
        given = sum(
            float((gradient * way).sum())
            for gradient, way in zip(gradients, directions, strict=True)
            if gradient is not None
        )
        tolerance = 1e-4 * max(abs(expected), abs(given), 1e-3)
        require(abs(given - expected) <= tolerance, f"the gradient says {given:.6g}, finite differences {expected:.6g}")


def _slope(term: Any, output: BackboneOutput, batch: FaceBatch, directions: list[Tensor]) -> float:
    step = 1e-6
    values = []
    for sign in (1, -1):
        found, leaves = _with_gradient(output, torch.float64)
        with torch.no_grad():
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf += sign * step * direction
            values.append(float(_loss(term, found, batch)))
    return (values[0] - values[1]) / (2 * step)


@check()
def autocast_is_safe(subject: Subject) -> None:
    """Under bfloat16 autocast the loss is finite and near that of float32."""
    output, batch = _given(subject)
    expected = _loss(subject.built, output, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _loss(subject.built, output, batch).float()
    require(bool(found.isfinite()), f"the loss is {found.item()}")
    require(close(found, expected, 0.05), f"the loss is {found.item():.4g}, in float32 {expected.item():.4g}")


@check()
def is_deterministic(subject: Subject) -> None:
    """The same batch gives the same loss."""
    one, two = (_loss(subject.built, *_given(subject)) for _ in range(2))
    require(torch.equal(one, two), f"two calls differ by {difference(one, two)}")


@check(tier="extra")
def is_picklable(subject: Subject) -> None:
    """The term can be sent to another process."""
    copy = pickle.loads(pickle.dumps(subject.built))
    one, two = _loss(subject.built, *_given(subject)), _loss(copy, *_given(subject))
    require(torch.equal(one, two), "a copy computes otherwise")


@check()
def measures_its_figures(subject: Subject) -> None:
    """``measure``, where ``figures`` are declared, gives finite scalars by these names."""
    if not hasattr(subject.built, "figures"):
        raise Inapplicable("it offers no `figures`")
    said = subject.built.measure(*_given(subject))
    wanted = sorted(subject.built.figures)
    require(sorted(said) == wanted, f"it measures {sorted(said)}, and declares {wanted}")
    for name, value in said.items():
        require(value.ndim == 0 and bool(value.isfinite()), f"{name} is {value}")


@check(needs="gpu", cuda=True)
def gpu_equals_cpu(subject: Subject) -> None:
    """On CUDA the loss is the one of the CPU."""
    output, batch = _given(subject)
    moved = replace(batch, **{name: value.cuda() for name, value in vars(batch).items() if value is not None})
    extras = {key: value.cuda() for key, value in output.extras.items()}
    term = pickle.loads(pickle.dumps(subject.built)).cuda()
    found = _loss(term, BackboneOutput(output.embedding.cuda(), (), extras), moved)
    expected = _loss(subject.built, output, batch)
    require(close(found.cpu(), expected, 1e-3), f"it differs by {difference(found.cpu(), expected)}")
