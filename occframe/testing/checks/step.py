"""What a pipeline step promises before it runs: see ``occframe.types.PipelineStep``. The rest is for its own tests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from occframe.config import Name
from occframe.step import StepConfig
from occframe.testing.check import Inapplicable, check, require
from occframe.testing.subject import Subject


@check()
def config_is_a_step_config(subject: Subject) -> None:
    """The configuration derives from ``StepConfig``: it declares what the step makes."""
    require(issubclass(subject.model, StepConfig), f"{subject.model.__name__} does not derive from StepConfig")


@check()
def outputs_are_declared(subject: Subject) -> None:
    """``outputs`` says what the step makes, by names that YAML can refer to, without running it."""
    if not isinstance(subject.config, StepConfig):
        raise Inapplicable("the configuration does not derive from StepConfig")
    outputs = subject.config.outputs()
    require(isinstance(outputs, Mapping), f"outputs() gave {type(outputs).__name__}, not a mapping")
    pattern = Name.__metadata__[0].pattern  # type: ignore[attr-defined]
    for part, kind in outputs.items():
        require(part == "" or re.match(pattern, part), f"an output is called {part!r}")
        require(isinstance(kind, str) and kind, f"the kind of output {part!r} is {kind!r}")


@check()
def inputs_are_references(subject: Subject) -> None:
    """What it takes from other steps is typed as a reference (``DataRef``, ``ModelRef`` …), which a plan can check."""
    likely = ("data", "model", "index", "evaluation", "hits")
    plain = [name for name in likely if name in subject.model.model_fields]
    plain = [name for name in plain if subject.model.model_fields[name].annotation is str]
    require(not plain, f"`{', '.join(plain)}` is plain text: a plan would not know what the step needs")


@check()
def runs_with_a_context(subject: Subject) -> None:
    """The factory gives an object whose ``run`` takes the context."""
    step = subject.build()
    run = getattr(step, "run", None)
    require(callable(run), f"{type(step).__name__} has no method run")
    assert run is not None
    taken = list(inspect.signature(run).parameters)
    require(len(taken) == 1, f"run takes ({', '.join(taken)}), not (context)")
