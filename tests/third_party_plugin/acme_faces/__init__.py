"""A matcher that searches by brute force in NumPy, and a command."""

from __future__ import annotations

from occframe import hookimpl

OCCFRAME_API_VERSION = 1


@hookimpl
def occframe_register_matchers(register):
    register(
        "torch",
        "acme_faces.matcher:Matcher",
        config="acme_faces.configs:MatcherConfig",
        summary="brute force in NumPy, counted",
        caps={"incremental", "delete"},
    )


@hookimpl
def occframe_register_commands(register):
    register("acme-count", "acme_faces.command:count", config=None, summary="Count the people in a gallery.")
