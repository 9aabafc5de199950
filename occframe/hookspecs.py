"""Every extension point of occframe. Hooks register; they never do work.

Each hook is called once with ``register(name, factory, *, config, summary, caps=frozenset())``:
``factory(config, context)`` builds the component, ``config`` is its pydantic model (``extra="forbid"``); both may be
lazy ``"package.module:Name"`` strings, so that listing plugins imports nothing heavy. See docs/hooks.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from occframe.plugins import Register

PROJECT = "occframe"
API_VERSION = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def occframe_register_datasets(register: Register) -> None:
    """Sources of faces: ``factory`` -> ``Dataset``."""


@hookspec
def occframe_register_detectors(register: Register) -> None:
    """Face detectors with five landmarks: ``factory`` -> ``Detector``."""


@hookspec
def occframe_register_aligners(register: Register) -> None:
    """Landmarks to an aligned crop: ``factory`` -> ``Aligner``."""


@hookspec
def occframe_register_occlusions(register: Register) -> None:
    """Occlusion generators: ``factory`` -> ``OcclusionGenerator``."""


@hookspec
def occframe_register_backbones(register: Register) -> None:
    """Recognition networks: ``factory`` -> ``Backbone``."""


@hookspec
def occframe_register_losses(register: Register) -> None:
    """Loss terms: ``factory`` -> ``LossTerm``."""


@hookspec
def occframe_register_generators(register: Register) -> None:
    """Image-to-image networks such as glasses removers: ``factory`` -> ``Generator``."""


@hookspec
def occframe_register_matchers(register: Register) -> None:
    """Search over embeddings: ``factory`` -> ``Matcher``."""


@hookspec
def occframe_register_protocols(register: Register) -> None:
    """Evaluation protocols: ``factory`` -> ``EvaluationProtocol``."""


@hookspec
def occframe_register_steps(register: Register) -> None:
    """Pipeline steps: ``factory`` -> ``PipelineStep``; ``config`` derives from ``StepConfig``."""


@hookspec
def occframe_register_trackers(register: Register) -> None:
    """Where the figures of a run are sent while it goes on: ``factory`` -> ``Tracker``."""


@hookspec
def occframe_register_engines(register: Register) -> None:
    """What shares out the work of a step among processes and machines: ``factory`` -> ``Engine``."""


@hookspec
def occframe_register_commands(register: Register) -> None:
    """CLI commands: ``factory`` is a ``click.Command`` (lazy string), ``config`` is None."""
