"""What every component promises, whatever its kind."""

from __future__ import annotations

import json
import pickle
from difflib import get_close_matches

from pydantic import ValidationError

from occframe.testing.check import Inapplicable, check, require
from occframe.testing.subject import Subject

#: What capabilities mean stands in docs/hooks.md. Others may be invented; these must be spelt as they are.
CAPABILITIES = ["delete", "export", "face_aware", "gpu", "grad", "incremental", "mask_output", "plan", "split"]


@check()
def loads_light(subject: Subject) -> None:
    """Listing it and validating its configuration import nothing heavy, in a process of their own."""
    if subject.component.owner.startswith("inline "):
        raise Inapplicable("a plugin file is loaded whole")
    loaded = subject.load()
    require(loaded.error is None, f"it does not load in a fresh process: {loaded.error}")
    require(
        not loaded.heavy,
        f"loading its plugin and configuration imports {', '.join(loaded.heavy)}: name the factory as a lazy string, "
        "and keep the configuration in a module that imports no such package",
    )


@check()
def summary_is_one_line(subject: Subject) -> None:
    """``occframe plugins`` has one line to say what it is."""
    summary = subject.component.summary
    require(isinstance(summary, str) and summary.strip(), "the summary is empty")
    require("\n" not in summary and len(summary) <= 160, "the summary is longer than one line of 160 characters")


@check()
def capabilities_are_spelt_right(subject: Subject) -> None:
    """No capability is nearly, but not quite, one that occframe knows."""
    for cap in sorted(subject.component.caps - set(CAPABILITIES)):
        near = get_close_matches(cap, CAPABILITIES, n=1, cutoff=0.75)
        require(not near, f"capability `{cap}`: did you mean `{near[0] if near else ''}`?")


@check()
def config_takes_its_example(subject: Subject) -> None:
    """The defaults, or what ``examples`` of the configuration gives, are valid."""
    _with_config(subject)
    try:
        subject.validate(subject.written)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        require(
            False,
            f"{dict(subject.written)} is no valid configuration ({faults}): give one in a classmethod "
            "`examples(cls, folder)` of the configuration",
        )


@check()
def config_forbids_unknown_options(subject: Subject) -> None:
    """A misspelt option is an error, not ignored (derive from ``occframe.Config``)."""
    _with_config(subject)
    try:
        subject.validate({**subject.written, "no_such_option": 1})
    except ValidationError:
        return
    require(False, "the unknown option `no_such_option` is taken without a word")


@check()
def config_round_trips_json(subject: Subject) -> None:
    """The configuration that a run writes down gives the same configuration again."""
    _with_config(subject)
    assert subject.config is not None
    written = json.loads(json.dumps(subject.config.model_dump(mode="json")))
    again = subject.validate(written)
    require(again == subject.config, f"{subject.config!r} is written as {written} and read as {again!r}")


@check()
def config_is_picklable(subject: Subject) -> None:
    """Worker processes can be given the configuration."""
    _with_config(subject)
    require(pickle.loads(pickle.dumps(subject.config)) == subject.config, "it is another one after pickling")


@check(tier="extra")
def options_are_described(subject: Subject) -> None:
    """Every option has a description, for editors and listings."""
    _with_config(subject)
    bare = [name for name, option in subject.model.model_fields.items() if not option.description]
    require(not bare, f"without a description: {', '.join(bare)}")


def _with_config(subject: Subject) -> None:
    if subject.component.config is None:
        raise Inapplicable("a command has no configuration")
