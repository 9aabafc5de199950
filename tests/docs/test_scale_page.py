from __future__ import annotations

from benchmarks.scale_plan import PAGE, Cluster, rates, render, tables


def test_the_plan_is_what_the_measured_rates_give():
    page = PAGE.read_text()
    assert page == render(page, Cluster()), "run: python -m benchmarks.scale_plan --write"


def test_it_is_proportional():
    whole, half = (tables(Cluster(faces=faces)) for faces in (1_000_000_000, 500_000_000))
    name, rate = next(iter(rates().items()))
    hours = 1e9 / rate / 3600
    assert f"| {name} | {rate:,.0f} | {hours / 1024:,.1f} | {hours:,.0f} |" in whole
    assert f"{hours / 2:,.0f} |" in half
