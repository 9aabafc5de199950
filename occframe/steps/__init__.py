"""The steps that come with occframe, registered like anybody's; each lives in a file of its own."""

from __future__ import annotations

from occframe.hookspecs import hookimpl
from occframe.plugins import Register


@hookimpl
def occframe_register_steps(register: Register) -> None:
    register(
        "pretrained",
        "occframe.steps.pretrained:build",
        config="occframe.steps.pretrained:PretrainedConfig",
        summary="a model from weights that somebody else trained",
    )
