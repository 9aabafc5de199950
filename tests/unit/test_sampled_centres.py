from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.distributed import Ranks
from occframe.training.checkpoint import Checkpoints
from occframe.types import BackboneOutput, FaceBatch
from occframe_losses.adaface import AdaFaceMargin
from occframe_losses.margin import MarginSoftmax, arcface_margin, cosface_margin
from occframe_losses.sampled import SampledMarginSoftmax, part_of

DIM, CLASSES = 6, 40
COSFACE = partial(cosface_margin, margin=0.35)


def make(rate=1.0, which=None, psi=COSFACE, classes=CLASSES, **options):
    options = {"scale": 8.0, "momentum": 0.9, "weight_decay": 0.0, "seed": 1} | options
    return SampledMarginSoftmax(
        num_identities=classes, embedding_dim=DIM, psi=psi, sample_rate=rate, which=which, **options
    )


def whole(term, psi=COSFACE):
    full = MarginSoftmax(num_identities=CLASSES, embedding_dim=DIM, scale=8.0, psi=psi)
    full.centres.data.copy_(term.centres)
    return full


def batch_of(labels):
    labels = torch.as_tensor(labels)
    return FaceBatch(images=torch.zeros(len(labels), 3, 1, 1), index=labels, identities=labels)


def draw(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, DIM, generator=generator), torch.randint(CLASSES, (count,), generator=generator)


@pytest.mark.parametrize("psi", [COSFACE, partial(arcface_margin, margin=0.5)])
def test_with_all_centres_it_is_the_full_softmax(psi):
    term = make(psi=psi)
    full = whole(term, psi)
    vectors, labels = draw(9)
    ours, theirs = vectors.clone().requires_grad_(), vectors.clone().requires_grad_()
    loss, expected = term(BackboneOutput(ours), batch_of(labels)), full(BackboneOutput(theirs), batch_of(labels))
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(term._seen[1].grad, full.centres.grad)


def test_its_descent_is_sgd():
    term = make(weight_decay=0.01)
    full = whole(term)
    optimiser = torch.optim.SGD([full.centres], lr=0.5, momentum=0.9, weight_decay=0.01)
    for step in range(4):
        vectors, labels = draw(9, step)
        (4.0 * term(BackboneOutput(vectors), batch_of(labels))).backward()
        term.descend(0.5, scale=4.0)
        full(BackboneOutput(vectors), batch_of(labels)).backward()
        optimiser.step()
        optimiser.zero_grad()
        torch.testing.assert_close(term.centres, full.centres.data)


def test_a_step_sees_its_share_and_moves_nothing_else():
    term = make(rate=0.25, weight_decay=0.01)
    before = term.centres.clone()
    vectors, labels = draw(5)
    term(BackboneOutput(vectors), batch_of(labels)).backward()
    seen = set(term._seen[0].tolist())
    assert len(seen) == 10
    assert set(labels.tolist()) <= seen
    term.descend(0.1)
    moved = (term.centres != before).any(1).nonzero()[:, 0].tolist()
    assert set(moved) == seen
    term(BackboneOutput(vectors), batch_of(labels))
    assert set(term._seen[0].tolist()) != seen


def test_more_people_in_a_batch_than_its_share():
    term = make(rate=0.05)
    vectors, labels = torch.randn(30, DIM), torch.arange(30)
    assert torch.isfinite(term(BackboneOutput(vectors), batch_of(labels)))
    assert term._seen[0].tolist() == list(range(30))


def test_a_gradient_that_is_no_number_moves_nothing():
    term = make()
    before = term.centres.clone()
    (math.inf * term(BackboneOutput(torch.randn(4, DIM)), batch_of([0, 1, 2, 3]))).backward()
    term.descend(0.1)
    assert torch.equal(term.centres, before)
    term.descend(0.1)  # nor does a second call, with no backward pass before it


def test_evaluation_sees_all_and_remembers_nothing():
    term = make(rate=0.1).eval()
    full = whole(term)
    vectors, labels = draw(9)
    with torch.no_grad():
        torch.testing.assert_close(
            term(BackboneOutput(vectors), batch_of(labels)), full(BackboneOutput(vectors), batch_of(labels))
        )
    assert term._seen is None


@given(st.integers(1, 300), st.integers(1, 7))
def test_parts_cover_all_rows_once(rows, count):
    parts = [part_of(rows, Ranks(rank, count)) for rank in range(count)]
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == rows
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


def test_centres_begin_alike_whatever_the_number_of_processes(monkeypatch):
    monkeypatch.setattr("occframe_losses.sampled._ROWS", 7)
    alone = make().centres
    spread = torch.cat([make(which=Ranks(rank, 3)).centres for rank in range(3)])
    assert torch.equal(alone, spread)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5))
def test_a_checkpoint_of_so_many_processes_is_read_by_as_many_others(tmp_path_factory, writers, readers):
    checkpoints = Checkpoints(str(tmp_path_factory.mktemp("checkpoints")), print)
    sealed = []
    for rank in range(writers):
        term = make(which=Ranks(rank, writers))
        term.velocity = torch.arange(term.first, term.stop).float()[:, None].expand(-1, DIM).contiguous()
        sealed += checkpoints.save_shards(3, term.shards)
    checkpoints.save(3, {}, sealed)
    for rank in range(readers):
        term = make(which=Ranks(rank, readers), seed=2)
        term.load_shards(partial(checkpoints.read_rows, 3))
        assert torch.equal(term.centres, make(which=Ranks(rank, readers)).centres)
        assert torch.equal(term.velocity[:, 0], torch.arange(term.first, term.stop).float())


def test_a_damaged_or_foreign_checkpoint(tmp_path):
    from occframe import OccframeError

    checkpoints = Checkpoints(str(tmp_path), print)
    checkpoints.save(3, {}, checkpoints.save_shards(3, make().shards))
    with pytest.raises(OccframeError, match="has 40 rows of `centres`, 50 are wanted"):
        make(classes=50).load_shards(partial(checkpoints.read_rows, 3))
    file = tmp_path / "step-000000003.centres-000000000000.bin"
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(OccframeError, match="is damaged"):
        make().load_shards(partial(checkpoints.read_rows, 3))


def test_old_shards_go_with_their_checkpoint(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), print)
    for step in range(4):
        checkpoints.save(step, {}, checkpoints.save_shards(step, make().shards))
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"step-000000002", "step-000000003"}


# --- AdaFace ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "quality"), [(10.0, -1.0), (20.0, 0.0), (26.0, 0.5 * 6 / 5), (200.0, 1.0)])
def test_adaface_is_its_formula(length, quality):
    margin = AdaFaceMargin(margin=0.4, concentration=0.5, momentum=0.01).eval()
    margin.mean.fill_(20.0)
    margin.deviation.fill_(5.0 - 1e-3)
    cosine = torch.linspace(-0.8, 0.8, 9)
    found = margin(cosine, torch.full((9,), length))
    for ours, theirs in zip(found.tolist(), cosine.tolist(), strict=True):
        angle = min(max(math.acos(theirs) - 0.4 * quality, 1e-3), math.pi - 1e-3)
        assert ours == pytest.approx(math.cos(angle) - (0.4 * quality + 0.4), abs=1e-5)


def test_adaface_learns_the_lengths_in_training_only():
    margin = AdaFaceMargin(margin=0.4, concentration=0.333, momentum=0.5)
    norms = torch.tensor([10.0, 30.0])
    margin.eval()(torch.zeros(2), norms)
    assert margin.mean == 20.0
    margin.train()(torch.zeros(2), norms)
    assert (margin.mean.item(), margin.deviation.item()) == pytest.approx((20.0, (100 + norms.std().item()) / 2))
    assert torch.isfinite(margin(torch.tensor([1.0, -1.0]), norms)).all()
