from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from occframe.training.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    MultiStepSchedule,
    Schedule,
    Span,
    rate_factor,
)

spans = st.builds(
    lambda per_epoch, epochs: Span(per_epoch, per_epoch * epochs), st.integers(1, 300), st.integers(1, 40)
)
warmups = st.one_of(
    st.builds(lambda epochs: {"warmup_epochs": epochs}, st.floats(0, 5)),
    st.builds(lambda steps: {"warmup_steps": steps}, st.integers(0, 500)),
)


@st.composite
def schedules(draw: st.DrawFn) -> object:
    warmup = draw(warmups)
    kind = draw(st.sampled_from(["constant", "multi-step", "cosine", "linear"]))
    if kind == "multi-step":
        milestones = sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=4)))
        return MultiStepSchedule(milestones=milestones, gamma=draw(st.floats(0.05, 0.9)), **warmup)
    if kind == "cosine":
        return CosineSchedule(floor=draw(st.floats(0, 0.5)), **warmup)
    if kind == "linear":
        return LinearSchedule(hold=draw(st.floats(0, 0.9)), **warmup)
    return ConstantSchedule(**warmup)


@given(schedules(), spans)
def test_a_factor_lies_between_0_and_1_and_rises_only_during_warm_up(schedule, span) -> None:
    factors = [rate_factor(schedule, step, span) for step in range(span.total_steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    after = factors[schedule.warmup(span) :]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))


@given(schedules(), spans)
def test_warm_up_is_a_straight_line_to_the_full_rate(schedule, span) -> None:
    length = schedule.warmup(span)
    for step in range(min(length, span.total_steps)):
        assert rate_factor(schedule, step, span) == pytest.approx((step + 1) / length * schedule.decay(step, span))
    if 0 < length < span.total_steps:
        assert schedule.decay(length, span) == pytest.approx(rate_factor(schedule, length, span))


def test_warm_up_in_epochs_and_in_steps_is_the_same_thing() -> None:
    span = Span(steps_per_epoch=8, total_steps=80)
    by_epochs, by_steps = ConstantSchedule(warmup_epochs=1.5), ConstantSchedule(warmup_steps=12)
    assert [rate_factor(by_epochs, step, span) for step in range(80)] == [
        rate_factor(by_steps, step, span) for step in range(80)
    ]


def test_multi_step_drops_at_the_start_of_its_epochs() -> None:
    span = Span(steps_per_epoch=10, total_steps=400)
    schedule = MultiStepSchedule(milestones=[10, 25], gamma=0.1)
    at = {step: rate_factor(schedule, step, span) for step in (0, 99, 100, 249, 250, 399)}
    assert at == pytest.approx({0: 1, 99: 1, 100: 0.1, 249: 0.1, 250: 0.01, 399: 0.01})


def test_linear_holds_the_rate_and_goes_down_to_nothing() -> None:
    span = Span(steps_per_epoch=7, total_steps=100)
    rates = [rate_factor(LinearSchedule(), step, span) for step in (0, 50, 75, 99, 100)]
    assert rates == pytest.approx([1, 1, 0.5, 0.02, 0])
    assert rate_factor(LinearSchedule(hold=0), 25, span) == pytest.approx(0.75)


@given(spans, st.floats(0, 0.5))
def test_cosine_goes_from_the_full_rate_to_its_floor(span, floor) -> None:
    schedule = CosineSchedule(floor=floor)
    if span.total_steps > 1:
        assert rate_factor(schedule, 0, span) == pytest.approx(1)
        assert rate_factor(schedule, span.total_steps - 1, span) == pytest.approx(floor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosine", "warmup_steps": 5, "warmup_epochs": 1}, "give one of the two"),
        ({"name": "multi-step", "milestones": [20, 10]}, "ascending"),
        ({"name": "multi-step", "milestones": []}, "at least 1 item"),
        ({"name": "exponential"}, "constant"),
        ({"name": "cosine", "flor": 0.1}, "flor"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Schedule).validate_python(options)
