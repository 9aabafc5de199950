"""Stand-ins that let a test run one step without the pipeline around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occframe.component import BuildContext, Reference
from occframe.engine import InProcess
from occframe.errors import OccframeError
from occframe.plugins import PluginRegistry
from occframe.step import Artefact, StepConfig
from occframe.storage import make_dirs

if TYPE_CHECKING:
    from occframe.types import Dataset, Engine


class SilentProgress:
    """Counts instead of drawing. done: units advanced. described: every text, in order."""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self.described: list[str] = []

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def describe(self, text: str) -> None:
        self.described.append(text)


class FakeStepContext:
    """A ``StepContext`` over a directory and two dictionaries.

    options: the step's YAML as a mapping, validated against ``model``; or a ready ``StepConfig``.
    stop: asked by the step, as Ctrl-C would answer; ``stop_after(n)`` answers True from the n-th question on.
    Afterwards ``notes`` and ``bars`` tell what the step said.
    """

    def __init__(
        self,
        url: str | Path,
        options: StepConfig | Mapping[str, Any],
        model: type[StepConfig] | None = None,
        *,
        name: str = "step",
        datasets: Mapping[str, Dataset] | None = None,
        artefacts: Mapping[str, Artefact] | None = None,
        registry: PluginRegistry | None = None,
        seed: int = 0,
        device: str = "cpu",
        stop: Callable[[], bool] = lambda: False,
        run_info: Mapping[str, Any] | None = None,
        engine: Engine | None = None,
        profile: bool = False,
    ) -> None:
        registry = registry or PluginRegistry.discover()
        if not isinstance(options, StepConfig):
            assert model is not None, "a mapping of options needs the model that validates it"
            options = model.model_validate(options, context={"registry": registry})
        self.name = name
        self.config: Any = options
        self.url = str(url)
        self.seed = seed
        self.device = device
        self.profile = profile
        self.build = BuildContext(registry, device=device, seed=seed)
        self.notes: list[str] = []
        self.tracked: list[tuple[int, dict[str, float]]] = []
        self.bars: list[SilentProgress] = []
        self._datasets = dict(datasets or {})
        self._artefacts = dict(artefacts or {})
        self._stop = stop
        self.run_info = run_info or {}
        self.engine = engine or InProcess()
        make_dirs(self.url)

    def dataset(self, reference: Reference | str) -> Dataset:
        return self._lookup(self._datasets, reference)

    def artefact(self, reference: Reference | str) -> Artefact:
        return self._lookup(self._artefacts, reference)

    @contextmanager
    def progress(self, description: str, total: int | None, unit: str) -> Iterator[SilentProgress]:
        bar = SilentProgress(description, total, unit)
        self.bars.append(bar)
        yield bar

    def track(self, figures: Mapping[str, float], step: int) -> None:
        self.tracked.append((step, dict(figures)))

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def stop_requested(self) -> Callable[[], bool]:
        return self._stop

    @staticmethod
    def _lookup(known: Mapping[str, Any], reference: str) -> Any:
        if reference not in known:
            raise OccframeError(f"the test provides no `{reference}`, only {sorted(known)}")
        return known[reference]


def stop_after(questions: int) -> Callable[[], bool]:
    """Answers False ``questions`` times, then True: Ctrl-C at a chosen moment."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > questions

    return stop
