from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe.types import BackboneOutput, FaceBatch
from occframe_losses.configs import ArcFaceConfig, CosFaceConfig
from occframe_losses.margin import MarginSoftmax, arcface_margin, build_arcface, build_cosface, cosface_margin

DIM, CLASSES = 6, 5


def make(psi, *, scale: float = 8.0, dtype: torch.dtype = torch.float64) -> MarginSoftmax:
    torch.manual_seed(3)
    return MarginSoftmax(num_identities=CLASSES, embedding_dim=DIM, scale=scale, psi=psi).to(dtype)


def loss_of(term: MarginSoftmax, embedding: Tensor, labels: Tensor) -> Tensor:
    batch = FaceBatch(images=torch.zeros(len(labels), 3, 1, 1), index=labels, identities=labels)
    return term(BackboneOutput(embedding), batch)


def draw(batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, DIM, generator=generator, dtype=dtype), torch.arange(batch) % CLASSES


def by_the_paper(term: MarginSoftmax, embedding: Tensor, labels: Tensor, own_cosine) -> float:
    """The formula, one image and one class at a time, in plain floats."""
    total = 0.0
    for x, y in zip(embedding.tolist(), labels.tolist(), strict=True):
        cosines = [
            sum(a * b for a, b in zip(x, w, strict=True)) / math.hypot(*x) / math.hypot(*w)
            for w in term.centres.tolist()
        ]
        own = math.exp(term.scale * own_cosine(cosines[y]))
        others = sum(math.exp(term.scale * c) for j, c in enumerate(cosines) if j != y)
        total -= math.log(own / (own + others))
    return total / len(labels)


@pytest.mark.parametrize("seed", range(5))
def test_cosface_is_its_formula(seed):
    term = make(partial(cosface_margin, margin=0.35))
    embedding, labels = draw(7, seed)
    expected = by_the_paper(term, embedding, labels, lambda c: c - 0.35)
    assert loss_of(term, embedding, labels).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_arcface_is_its_formula(seed):
    term = make(partial(arcface_margin, margin=0.5))
    embedding, labels = draw(7, seed)
    # Both branches: one image opposite to its centre, one on it.
    embedding[0], embedding[1] = -3 * term.centres[0].detach(), 3 * term.centres[1].detach()

    def shifted(cosine: float) -> float:
        theta = math.acos(max(-1.0, min(1.0, cosine)))
        return math.cos(theta + 0.5) if theta <= math.pi - 0.5 else cosine - 0.5 * math.sin(0.5)

    expected = by_the_paper(term, embedding, labels, shifted)
    assert loss_of(term, embedding, labels).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("psi", [cosface_margin, arcface_margin])
def test_without_margin_it_is_the_scaled_softmax(psi):
    term = make(partial(psi, margin=0.0))
    embedding, labels = draw(9)
    cosines = torch.nn.functional.cosine_similarity(embedding[:, None], term.centres[None], dim=2)
    expected = torch.nn.functional.cross_entropy(term.scale * cosines, labels)
    torch.testing.assert_close(loss_of(term, embedding, labels), expected)


@pytest.mark.parametrize("psi", [partial(cosface_margin, margin=0.35), partial(arcface_margin, margin=0.5)])
def test_gradients(psi):
    term = make(psi)
    embedding, labels = draw(4)
    centres = term.centres.detach().clone().requires_grad_()

    def loss(embedding: Tensor, centres: Tensor) -> Tensor:
        batch = FaceBatch(images=embedding, index=labels, identities=labels)
        return torch.func.functional_call(term, {"centres": centres}, (BackboneOutput(embedding), batch))

    assert torch.autograd.gradcheck(loss, (embedding.requires_grad_(), centres))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(8)), st.sampled_from([cosface_margin, arcface_margin]))
def test_the_order_of_a_batch_does_not_matter(order, psi):
    term = make(partial(psi, margin=0.4))
    embedding, labels = draw(8)
    torch.testing.assert_close(loss_of(term, embedding, labels), loss_of(term, embedding[order], labels[order]))


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_the_length_of_an_embedding_does_not_matter(length):
    term = make(partial(arcface_margin, margin=0.5))
    embedding, labels = draw(4)
    torch.testing.assert_close(loss_of(term, embedding, labels), loss_of(term, embedding * length, labels))


@given(st.floats(0, 1.5))
def test_arcface_margin_rises_with_the_cosine_everywhere(margin):
    shifted = arcface_margin(torch.linspace(-1, 1, 4001, dtype=torch.float64), margin=margin)
    assert bool((shifted.diff() > -1e-12).all())
    assert bool((shifted <= torch.linspace(-1, 1, 4001, dtype=torch.float64) + 1e-12).all())


@pytest.mark.parametrize("psi", [partial(cosface_margin, margin=0.35), partial(arcface_margin, margin=0.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_at_the_extremes(psi, dtype):
    """Embeddings on their centre, opposite to it, at the origin, tiny and huge, at the published scale."""
    term = make(psi, scale=64.0, dtype=torch.float32)
    centres = term.centres.detach()
    embedding = torch.stack([centres[0], -centres[1], torch.zeros(DIM), centres[3] * 1e-6, -centres[4] * 1e4])
    if dtype == torch.float16:  # the slope of x / |x| at 0 is beyond fp16's range, whatever is done
        embedding[2], embedding[3] = centres[0], centres[3]
    embedding = embedding.to(dtype).requires_grad_()
    loss = loss_of(term, embedding, torch.arange(5))
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(embedding.grad).all())
    assert bool(torch.isfinite(term.centres.grad).all())


def test_autocast_does_not_lower_the_precision():
    term = make(partial(cosface_margin, margin=0.35), scale=64.0, dtype=torch.float32)
    embedding, labels = draw(8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = loss_of(term, embedding, labels)
    assert torch.equal(under, loss_of(term, embedding, labels))


def test_built_from_the_context_and_its_seed():
    context = BuildContext(PluginRegistry(), seed=5, num_identities=7, embedding_dim=4)
    term = build_cosface(CosFaceConfig(), context)
    assert term.centres.shape == (7, 4)
    assert term.needs == {"identities"}
    assert torch.equal(term.centres, build_cosface(CosFaceConfig(), context).centres)


@pytest.mark.parametrize("known", [{}, {"num_identities": 3}, {"embedding_dim": 4}])
def test_without_a_training_set_there_are_no_centres(known):
    with pytest.raises(OccframeError, match="`arcface` needs the number of training identities"):
        build_arcface(ArcFaceConfig(), BuildContext(PluginRegistry(), **known))
