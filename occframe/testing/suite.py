"""The suite: which checks apply to which components, running them, and the report."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from occframe.errors import OccframeError, PluginError
from occframe.hookspecs import API_VERSION
from occframe.plugins import KINDS, Component, PluginRecord, PluginRegistry
from occframe.testing import SUITE_VERSION
from occframe.testing.check import Check, CheckFailed, Inapplicable
from occframe.testing.fresh import FreshLoad, Loaded, load_in_fresh_process
from occframe.testing.subject import Subject, subjects

Outcome = Literal["passed", "failed", "skipped"]
TierChoice = Literal["core", "all"]


@dataclass(frozen=True)
class Result:
    """id: ``kind/name/check``. message: why it failed or was skipped. details: a traceback, where there is one."""

    id: str
    tier: str
    outcome: Outcome
    message: str = ""
    details: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Case:
    """One check of one component or plugin; ``run`` never raises."""

    id: str
    check: Check
    attempt: Callable[[], None]

    def run(self) -> Result:
        began = time.perf_counter()
        outcome, message, details = _outcome(self.attempt)
        return Result(self.id, self.check.tier, outcome, message, details, round(time.perf_counter() - began, 3))


def _outcome(attempt: Callable[[], None]) -> tuple[Outcome, str, str]:
    try:
        attempt()
    except Inapplicable as reason:
        return "skipped", str(reason), ""
    except Exception as error:  # a component under test may raise anything
        expected = isinstance(error, CheckFailed | OccframeError)
        said = [str(error) if expected else f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
        return "failed", "\n".join(said), "" if isinstance(error, CheckFailed) else traceback.format_exc()
    return "passed", "", ""


def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks of a kind, or of ``plugin``, in their order; those that every component has first."""
    names = [kind] if kind == "plugin" else ["any_component", kind]
    modules = [importlib.import_module(f"occframe.testing.checks.{name}") for name in names]
    return tuple(item for module in modules for item in vars(module).values() if isinstance(item, Check))


class Conformance:
    """The suite over one distribution's components.

    distribution: its name, or an entry point's. inline: plugin files to check instead, as ``--inline-plugin`` loads
    them. tier: ``core``, or ``all`` with the extra checks.
    Raises PluginError where no such plugin is installed.
    """

    def __init__(self, distribution: str = "", *, inline: Sequence[Path] = (), tier: TierChoice = "core") -> None:
        self.registry = PluginRegistry.discover(inline=inline)
        self.records = [record for record in self.registry.records if _belongs(record, distribution, inline)]
        if not self.records:
            known = sorted({record.distribution for record in self.registry.records})
            raise PluginError(
                f"no installed distribution `{distribution}` has an entry point in the group `occframe`",
                remedy=f"install it (pip install -e .), or name one of: {', '.join(known)}",
            )
        self.name = self.records[0].distribution
        self.tier = tier
        self._only = distribution or self.name
        self._inline = tuple(inline)
        self._current: tuple[Component, list[Subject]] | None = None

    @cached_property
    def cases(self) -> list[Case]:
        return list(self._cases())

    def run(self, told: Callable[[Result], None] = lambda result: None) -> Report:
        """Every case in turn; ``told`` hears of each as it ends."""
        results = []
        for case in self.cases:
            results.append(case.run())
            told(results[-1])
        return Report(self.name, versions(self.name), results)

    def _cases(self) -> Iterator[Case]:
        for record in self.records:
            for check in self._chosen("plugin"):
                yield Case(f"plugin/{record.name}/{check.name}", check, self._of_plugin(check, record))
        components = [component for record in self.records for component in record.components]
        for component in sorted(components, key=lambda item: (KINDS.index(item.kind), item.name)):
            for check in self._chosen(component.kind):
                yield Case(f"{component.kind}/{component.name}/{check.name}", check, self._of(check, component))

    def _chosen(self, kind: str) -> list[Check]:
        return [check for check in checks_of(kind) if check.tier == "core" or self.tier == "all"]

    def _of_plugin(self, check: Check, record: PluginRecord) -> Callable[[], None]:
        return lambda: check.run(record)

    def _of(self, check: Check, component: Component) -> Callable[[], None]:
        def attempt() -> None:
            if check.needs is not None and check.needs not in component.caps:
                raise Inapplicable(f"capability `{check.needs}` is not declared")
            if check.cuda and not _has_cuda():
                raise Inapplicable(f"capability `{check.needs}`: no CUDA device here")
            self._over_examples(check, component)

        return attempt

    def _over_examples(self, check: Check, component: Component) -> None:
        chosen = self._subjects(component)
        skipped: list[str] = []
        for subject in chosen:
            try:
                check.run(subject)
            except Inapplicable as reason:
                skipped.append(str(reason))
            except Exception as error:
                if len(chosen) > 1:
                    error.add_note(f"with the example {dict(subject.written)}")
                raise
        if len(skipped) == len(chosen):
            raise Inapplicable(skipped[0])

    def _subjects(self, component: Component) -> list[Subject]:
        """Those of the component asked for last are kept, with what they built; networks are large."""
        if self._current is None or self._current[0] is not component:
            self._current = None
            folder = self._scratch / f"{component.kind}-{component.name}"
            folder.mkdir(exist_ok=True)
            self._current = component, subjects(component, self.registry, folder, partial(self._loaded, component))
        return self._current[1]

    def _loaded(self, component: Component) -> Loaded:
        found = self._fresh.components.get(f"{component.kind}/{component.name}")
        if found is None:
            return Loaded(error=self._fresh.error or "it is not registered in a process of its own")
        return Loaded(self._fresh.plugins + found.heavy, found.error)

    @cached_property
    def _fresh(self) -> FreshLoad:
        return load_in_fresh_process(self._only, self._inline)

    @cached_property
    def _scratch(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="occframe-conformance-"))

    def close(self) -> None:
        """Delete what the checks wrote."""
        self._current = None
        if "_scratch" in vars(self):
            shutil.rmtree(self._scratch, ignore_errors=True)


@dataclass(frozen=True)
class Report:
    """What became of every check of a distribution."""

    distribution: str
    versions: dict[str, str]
    results: list[Result]

    @property
    def conforms(self) -> bool:
        return not any(result.outcome == "failed" for result in self.results)

    def as_json(self) -> dict[str, Any]:
        counts = Counter(result.outcome for result in self.results)
        return {
            "distribution": self.distribution,
            "versions": self.versions,
            "conforms": self.conforms,
            "counts": {outcome: counts[outcome] for outcome in ("passed", "failed", "skipped")},
            "results": [asdict(result) for result in self.results],
        }


def versions(distribution: str) -> dict[str, str]:
    """What a report has to name for its result to mean something; nothing is imported for it."""
    found = {"suite": SUITE_VERSION, "plugin API": str(API_VERSION), "python": platform.python_version()}
    for name in dict.fromkeys([distribution, "occframe", "torch", "numpy", "pydantic"]):
        try:
            found[name] = importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):  # an inline plugin has none
            continue
    return found


def _belongs(record: PluginRecord, distribution: str, inline: Sequence[Path]) -> bool:
    if inline:
        return record.distribution in {f"inline {path.name}" for path in inline}
    return distribution in (record.name, record.distribution)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
