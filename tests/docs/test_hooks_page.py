"""docs/hooks.md against the code: every hook is there with its signature, and the example runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from occframe import hookspecs
from occframe.plugins import HOOK_KINDS, PluginRegistry

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


def test_every_hook_has_a_specification_and_a_kind():
    specified = {name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("occframe_")}
    assert specified == set(HOOK_KINDS)


@pytest.mark.parametrize("hook", HOOK_KINDS)
def test_every_hook_is_documented_with_its_signature(hook):
    signature = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"`{hook}({signature})`" in PAGE.read_text()


@pytest.mark.parametrize("hook", HOOK_KINDS)
def test_what_the_table_calls_bundled_is_registered(hook):
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{hook}(")]
    named = set(re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1]))
    registered = {component.name for component in PluginRegistry.discover(environ={}).components(HOOK_KINDS[hook])}
    assert named <= registered
    assert bool(named) == bool(registered)


def test_every_capability_in_use_is_documented():
    used = {cap.partition(":")[0] for component in PluginRegistry.discover().components() for cap in component.caps}
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("## Capabilities")[2], re.MULTILINE))
    assert used <= documented
