from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occframe.random import _uniform_anywhere, derive_seed, id_seeds, mix, uniform

int64 = st.integers(-(2**63), 2**63 - 1)


def test_derive_seed_is_the_same_on_every_machine():
    """Frozen values: a changed hash would silently change every published run."""
    assert derive_seed(0, "train", 3) == 7467275626714240516
    assert id_seeds(["s1/1"]).tolist() == [687519900656152538]
    assert mix(7, 2, id_seeds(["s1/1"])).tolist() == [-3666794775345214829]


def test_uniform_is_splitmix64_in_unbounded_integers():
    def finalise(bits):
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        return bits ^ (bits >> 31)

    def expected(seed, stream, counter):
        state = finalise((seed ^ derive_seed("stream", stream)) % 2**64) + counter * 0x9E3779B97F4A7C15
        return finalise(state % 2**64) >> 40

    for seed in (0, 1, -1, 42, 2**63 - 1, -(2**63)):
        drawn = (uniform(torch.tensor([seed]), 5, 3) * 2**24).long().tolist()
        assert drawn == [[expected(seed, 5, counter) for counter in (1, 2, 3)]]


@given(st.lists(st.one_of(st.text(), int64), max_size=4), st.lists(st.one_of(st.text(), int64), max_size=4))
def test_derive_seed_tells_parts_apart(left, right):
    assert 0 <= derive_seed(*left) < 2**63
    same = len(left) == len(right) and all(type(a) is type(b) and a == b for a, b in zip(left, right, strict=True))
    assert (derive_seed(*left) == derive_seed(*right)) == same


def test_numpy_integers_derive_as_python_ones():
    assert derive_seed("shuffle", np.int64(3)) == derive_seed("shuffle", 3)


@given(st.lists(int64, min_size=1, max_size=40), st.integers(0, 50), st.integers(1, 9), st.data())
def test_a_draw_does_not_depend_on_the_batch_it_is_in(seeds, stream, count, data):
    batch = torch.tensor(seeds, dtype=torch.int64)
    whole = uniform(batch, stream, count)
    assert whole.shape == (len(seeds), count)
    assert whole.dtype == torch.float32
    cut = data.draw(st.integers(0, len(seeds)))
    assert torch.equal(whole, torch.cat([uniform(batch[:cut], stream, count), uniform(batch[cut:], stream, count)]))
    order = torch.tensor(data.draw(st.permutations(range(len(seeds)))))
    assert torch.equal(whole[order], uniform(batch[order], stream, count))
    assert torch.equal(whole[:, :1], uniform(batch, stream, 1))


@given(st.lists(int64, min_size=1, max_size=20), st.integers(0, 9), st.integers(1, 2**24))
def test_scaled_draws_stay_below_their_bound(seeds, stream, bound):
    draws = uniform(torch.tensor(seeds), stream, 4)
    assert (draws >= 0).all()
    assert (draws < 1).all()
    assert ((draws * bound).long() < bound).all()


@pytest.mark.parametrize("seeds", [torch.arange(200_000), torch.arange(200_000) * 0x9E3779B9, -torch.arange(200_000)])
def test_draws_of_related_seeds_are_uniform_and_uncorrelated(seeds):
    draws = torch.cat([uniform(seeds, 1, 3), uniform(seeds, 2, 3)], 1).double()
    deviation = 1 / (12 * len(seeds)) ** 0.5
    assert ((draws.mean(0) - 0.5).abs() < 5 * deviation).all()
    counts = torch.stack([torch.histc(column, 64, 0, 1) for column in draws.T])
    expected = len(seeds) / 64
    chi_squared = ((counts - expected) ** 2 / expected).sum(1)
    assert (chi_squared < 63 + 5 * (2 * 63) ** 0.5).all()
    correlations = torch.corrcoef(draws.T) - torch.eye(6, dtype=torch.float64)
    assert correlations.abs().max() < 5 / len(seeds) ** 0.5
    neighbours = torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1]
    assert neighbours.abs() < 5 / len(seeds) ** 0.5


@given(st.lists(int64, min_size=1, max_size=20), st.integers(0, 9), st.integers(1, 9))
def test_the_path_of_other_devices_gives_the_same_bits(seeds, stream, count):
    seeds = torch.tensor(seeds)
    there = _uniform_anywhere(seeds, derive_seed("stream", stream), count)
    assert torch.equal(uniform(seeds, stream, count), there)
    strided = torch.stack([seeds, seeds + 1], 1)[:, 0]
    assert torch.equal(uniform(strided, stream, count), there)


def test_mix_changes_with_seed_epoch_and_id_only():
    seeds = id_seeds([f"s{number}" for number in range(1000)])
    assert len(set(seeds.tolist())) == 1000
    assert np.array_equal(mix(1, 2, seeds)[500:], mix(1, 2, seeds[500:]))
    drawn = [mix(seed, epoch, seeds) for seed in range(3) for epoch in range(3)]
    assert len({value for values in drawn for value in values.tolist()}) == 9 * 1000
    assert drawn[0].dtype == np.int64
    assert id_seeds([]).shape == (0,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_the_same_bits():
    seeds = torch.arange(-5000, 5000) * 0x5851F42D4C957F2D
    assert torch.equal(uniform(seeds, 3, 7), uniform(seeds.cuda(), 3, 7).cpu())
