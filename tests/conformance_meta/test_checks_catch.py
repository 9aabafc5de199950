"""The suite is tested: for every check there is a component that breaks just what it promises, and it is caught; a good
component of each kind passes all of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from occframe.plugins import KINDS
from occframe.testing.suite import Case, Conformance, checks_of

PLUGINS = Path(__file__).parent / "plugins"
GROUPS = ["any_component", *KINDS]


@cache
def suite(group: str) -> Conformance:
    return Conformance(inline=[PLUGINS / f"meta_{group}.py"], tier="all")


def own_checks(group: str) -> list[str]:
    """The checks that a group brings, without those of every component."""
    shared = [check.name for check in checks_of("aligner") if check.run.__module__.endswith("any_component")]
    if group == "any_component":
        return shared
    return [check.name for check in checks_of(group) if check.name not in shared]


def kind_of(group: str) -> str:
    return "aligner" if group == "any_component" else group


def case(group: str, component: str, check: str) -> Case:
    wanted = f"{kind_of(group)}/{component}/{check}"
    return next(case for case in suite(group).cases if case.id == wanted)


BREAKS = [
    pytest.param(group, component.name, check, id=f"{group}-{component.name}")
    for group in GROUPS
    for component in suite(group).registry.components(kind_of(group))
    if component.plugin == f"meta_{group}" and (check := component.name.partition("-")[0]) in own_checks(group)
]
#: Needs an installed distribution; see test_plugins_of_a_distribution.py.
ELSEWHERE = {("any_component", "loads_light")}


def test_every_check_has_a_component_that_breaks_it():
    broken = {(parameter.values[0], parameter.values[2]) for parameter in BREAKS} | ELSEWHERE
    assert broken == {(group, check) for group in GROUPS for check in own_checks(group)}


@pytest.mark.parametrize(("group", "component", "check"), BREAKS)
def test_a_broken_component_is_caught(group: str, component: str, check: str):
    result = case(group, component, check).run()
    if result.outcome == "skipped" and "CUDA" in result.message:
        pytest.skip(result.message)
    assert result.outcome == "failed", result
    assert result.message


@pytest.mark.parametrize("group", GROUPS)
def test_a_good_component_passes(group: str):
    results = [found.run() for found in suite(group).cases if found.id.startswith(f"{kind_of(group)}/good/")]
    # The checks of an aligner itself are tried on one that aligns.
    checks = set(own_checks(group))
    failed = [result for result in results if result.outcome == "failed" and result.id.rpartition("/")[2] in checks]
    assert failed == []
    skipped = {result.message for result in results if result.outcome == "skipped"}
    cuda = {message for message in skipped if "CUDA" in message}
    allowed = {"a command has no configuration"} if group == "command" else set()
    assert skipped - cuda <= allowed | {"a plugin file is loaded whole"}
