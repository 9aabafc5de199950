"""What a pipeline step is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from occframe.component import BuildContext, Config, Reference

if TYPE_CHECKING:
    from occframe.types import Dataset, Engine


class StepConfig(Config):
    """Base of a step's configuration. ``produces`` is the kind of its main output: "model", "embeddings", ….

    A step with several outputs overrides ``outputs``; output ``part`` of step ``name`` is referred to as ``name.part``.
    """

    produces: ClassVar[str | None] = None

    def outputs(self) -> Mapping[str, str]:
        """Output name -> kind; "" is the main output, referred to by the step's own name. Known without running."""
        return {"": self.produces} if self.produces else {}


@dataclass(frozen=True)
class Artefact:
    """Something a step made. url: the step's directory (any fsspec URL). meta: plain JSON, as the step returned it."""

    name: str
    kind: str
    url: str
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class StepOutcome:
    """outputs: meta (plain JSON) by output name; a single-output step uses ``{"": {…}}``.

    metrics: figures for the manifest. headlines: lines worth printing when the run ends, most important first.
    """

    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    headlines: Sequence[str] = ()


class Progress(Protocol):
    def advance(self, amount: int = 1) -> None: ...
    def describe(self, text: str) -> None:
        """A few words beside the bar, such as the current loss."""


class Materials(Protocol):
    """As much of a ``StepContext`` as it takes to load what earlier steps made."""

    @property
    def build(self) -> BuildContext: ...
    def artefact(self, reference: Reference | str) -> Artefact: ...


class StepContext(Protocol):
    """The pipeline as a step sees it.

    name: of this step. config: its validated model. url: its own directory, which exists and survives a kill; what a
    step finds there at start is what an interrupted earlier attempt *with the same inputs* left.
    seed: of this step, derived from the pipeline's seed and the step's name. device: a torch device string.
    profile: whether the user wants to know where the time of a training goes.
    """

    name: str
    config: Any
    url: str
    seed: int
    device: str
    build: BuildContext
    profile: bool

    def dataset(self, reference: Reference | str) -> Dataset:
        """The data set a reference names, its split applied."""

    def artefact(self, reference: Reference | str) -> Artefact:
        """What another step made."""

    @property
    def engine(self) -> Engine:
        """What shares out work that can be: by itself this process, elsewhere what the pipeline names."""

    def progress(self, description: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        """A progress bar with rate (units a second) and time left; lines now and then where there is no terminal."""

    def track(self, figures: Mapping[str, float], step: int) -> None:
        """Pass the figures after training step ``step`` on to the run's trackers, where there are any."""

    def note(self, text: str) -> None:
        """Tell the user something worth knowing; kept in the manifest."""

    @property
    def stop_requested(self) -> Callable[[], bool]:
        """True once the user pressed Ctrl-C: save what is needed to go on and raise ``Interrupted``."""

    @property
    def run_info(self) -> Mapping[str, Any]:
        """Facts about the run, for a report: name, seed, config (the resolved pipeline as plain data), versions,
        machine, started, plugins. A key may be missing."""
