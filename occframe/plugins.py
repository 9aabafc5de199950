"""Finding plugins and the components they register.

Our own loader over ``importlib.metadata``: pluggy's ``load_setuptools_entrypoints`` skips a second distribution with
the same entry-point name in silence, and one broken import kills the host without saying whose it was.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

from occframe import hookspecs
from occframe.errors import OccframeError, PluginError, first_line

if TYPE_CHECKING:
    from pydantic import BaseModel

ENTRY_POINT_GROUP = "occframe"

#: hook name -> kind of component it registers; "occframe_register_losses" -> "loss".
HOOK_KINDS: Mapping[str, str] = {
    "occframe_register_datasets": "dataset",
    "occframe_register_detectors": "detector",
    "occframe_register_aligners": "aligner",
    "occframe_register_occlusions": "occlusion",
    "occframe_register_backbones": "backbone",
    "occframe_register_losses": "loss",
    "occframe_register_generators": "generator",
    "occframe_register_matchers": "matcher",
    "occframe_register_protocols": "protocol",
    "occframe_register_steps": "step",
    "occframe_register_trackers": "tracker",
    "occframe_register_engines": "engine",
    "occframe_register_commands": "command",
}
KINDS = tuple(HOOK_KINDS.values())

Lazy = str | Callable[..., Any]


class Register(Protocol):
    """What a hook is given. factory, config: the object, or a lazy "package.module:Name".

    summary: one line for listings. caps: capabilities, e.g. "split", "grad", "gpu"; see docs/hooks.md.
    Raises PluginError where the arguments do not fit.
    """

    def __call__(
        self, name: str, factory: Lazy, *, config: str | type[BaseModel] | None, summary: str, caps: Iterable[str] = ()
    ) -> None: ...


@dataclass(frozen=True)
class Component:
    """One registered component; nothing of it is imported until ``load_factory`` or ``load_config``."""

    kind: str
    name: str
    owner: str  # distribution
    version: str
    plugin: str  # entry point
    summary: str
    factory: Lazy
    config: Any
    caps: frozenset[str] = frozenset()

    @property
    def qualified_name(self) -> str:
        return f"{self.owner}:{self.name}"

    def load_factory(self) -> Callable[..., Any]:
        return self._load(self.factory, "factory")  # type: ignore[no-any-return]

    def load_config(self) -> type[BaseModel]:
        return self._load(self.config, "config")  # type: ignore[no-any-return]

    def _load(self, target: Any, what: str) -> Any:
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"{self.kind} `{self.name}` of {self.owner} cannot load its {what} {target}: {reason}",
                remedy=f"report this to the authors of {self.owner}, or name another {self.kind}",
            ) from error


Status = Literal["loaded", "failed", "blocked", "incompatible"]


@dataclass(frozen=True)
class PluginRecord:
    """What became of one entry point. error: one line; details: the traceback, where there is one."""

    name: str
    distribution: str
    version: str
    status: Status
    error: str | None = None
    details: str | None = None
    components: tuple[Component, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass
class _Source:
    """A plugin before it is loaded."""

    name: str
    distribution: str
    version: str
    load: Callable[[], Any]
    modules: tuple[str, ...] = field(default=())


def _installed() -> list[_Source]:
    sources = []
    for distribution in importlib.metadata.distributions():
        points = [point for point in distribution.entry_points if point.group == ENTRY_POINT_GROUP]
        # Name and version parse the METADATA file: only for those that have an entry point of ours.
        sources += [_Source(point.name, distribution.name, distribution.version, point.load) for point in points]
    # A distribution found twice on sys.path is shadowed by the first, as for imports.
    unique = {(source.distribution.lower(), source.name): source for source in reversed(sources)}
    return sorted(
        unique.values(), key=lambda source: (source.distribution != "occframe", source.distribution, source.name)
    )


def _inline(path: Path) -> _Source:
    def load() -> Any:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise OccframeError(f"no inline plugin at {path}")
        _refuse_taken_name(path)
        module = importlib.util.module_from_spec(spec)
        # Lazy "module:Name" strings and pickling need the module to be findable by name.
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(path.stem, None)
            raise
        return module

    # The content is the version: an edited plugin makes the steps that use it run again.
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "-"
    return _Source(path.stem, f"inline {path.name}", version, load)


def _refuse_taken_name(path: Path) -> None:
    """An inline plugin becomes a module of its file's name, which must not stand in for another one."""
    loaded = sys.modules.get(path.stem)
    try:
        spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        spec = None
    origin = getattr(spec, "origin", None)
    if (loaded or spec) and (
        not origin or origin in ("built-in", "frozen") or Path(origin).resolve() != path.resolve()
    ):
        raise OccframeError(f"the inline plugin {path} has the name of another module, `{path.stem}`; rename the file")


class PluginRegistry:
    """The components of all plugins of this process. Made by ``PluginRegistry.discover``; passed on, never global.

    inline: the files it read inline plugins from.
    """

    def __init__(self) -> None:
        self.records: list[PluginRecord] = []
        self.inline: tuple[Path, ...] = ()
        #: How ``discover`` was called; None where a plugin is here that another process would not find.
        self._found_by: Mapping[str, Any] | None = None
        self._components: dict[tuple[str, str], list[Component]] = defaultdict(list)
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def discover(
        cls,
        *,
        inline: Iterable[Path] = (),
        only: Iterable[str] | None = None,
        disabled: Iterable[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> PluginRegistry:
        """Load every installed plugin that is not blocked, then the inline ones.

        only, disabled: entry-point or distribution names, added to OCCFRAME_LOAD_PLUGINS and OCCFRAME_DISABLED_PLUGINS.
        """
        listed = _names(environ.get("OCCFRAME_LOAD_PLUGINS")) | set(only or ())
        allowed = listed if (only is not None or "OCCFRAME_LOAD_PLUGINS" in environ) else None
        barred = _names(environ.get("OCCFRAME_DISABLED_PLUGINS")) | set(disabled)
        registry = cls()
        for source in _installed():
            names = {source.name, source.distribution}
            if names & barred or (allowed is not None and not names & allowed):
                registry.records.append(PluginRecord(source.name, source.distribution, source.version, "blocked"))
            else:
                registry._load(source)
        # Once, though --inline-plugin and the pipeline may both name it.
        registry.inline = tuple(dict.fromkeys(Path(item).resolve() for item in inline))
        for path in registry.inline:
            registry._load(_inline(path))
        named = {key: environ[key] for key in ("OCCFRAME_LOAD_PLUGINS", "OCCFRAME_DISABLED_PLUGINS") if key in environ}
        only = None if only is None else sorted(only)
        registry._found_by = {"inline": registry.inline, "only": only, "disabled": sorted(disabled), "environ": named}
        return registry

    def __reduce__(self) -> tuple[Callable[..., PluginRegistry], tuple[Any, ...]]:
        """Another process looks for the plugins itself, and finds the same ones or says so."""
        if self._found_by is None:
            raise PluginError(
                "plugins that no entry point or file names cannot be found by another process",
                remedy="write them to a file, and load it with --inline-plugin",
            )
        return _discover_again, (self._found_by, [(record.label, record.status) for record in self.records])

    def register(self, plugin: Any, *, name: str, distribution: str, version: str = "-") -> PluginRecord:
        """Load a plugin object (a module or namespace with hookimpls) that no entry point names; used by tests."""
        self._found_by = None
        return self._load(_Source(name, distribution, version, lambda: plugin))

    # --- loading ------------------------------------------------------------------------------------------------------

    def _load(self, source: _Source) -> PluginRecord:
        record = partial(PluginRecord, source.name, source.distribution, source.version)
        found: list[Component] = []
        try:
            plugin = source.load()
            wanted = getattr(plugin, "OCCFRAME_API_VERSION", hookspecs.API_VERSION)
            if wanted != hookspecs.API_VERSION:
                result = record(
                    "incompatible",
                    f"needs occframe plugin API {wanted}, this occframe has {hookspecs.API_VERSION}: "
                    f"upgrade {'occframe' if wanted > hookspecs.API_VERSION else source.distribution}",
                )
            else:
                found = self._call_hooks(plugin, source)
                result = record("loaded", components=tuple(found))
        except Exception as error:  # a stranger's module may raise anything; it must not take the host along
            result = record("failed", _one_line(error), traceback.format_exc())
        for component in result.components:
            self._components[component.kind, component.name].append(component)
        self.records.append(result)
        return result

    def _call_hooks(self, plugin: Any, source: _Source) -> list[Component]:
        _check_hook_names(plugin)
        key = f"{source.distribution}:{source.name}"
        self._manager.register(plugin, key)
        try:
            found: list[Component] = []
            # Only this plugin's hooks: others have been called already.
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            for hook, kind in HOOK_KINDS.items():
                caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
                caller(register=partial(_collect, found, kind, source))
            return found
        except Exception:
            self._manager.unregister(name=key)
            raise

    # --- asking -------------------------------------------------------------------------------------------------------

    def components(self, kind: str | None = None) -> list[Component]:
        """All components, or those of a kind, by kind and name."""
        all_of_them = (item for items in self._components.values() for item in items)
        chosen = (item for item in all_of_them if kind in (None, item.kind))
        return sorted(chosen, key=lambda item: (KINDS.index(item.kind), item.name, item.owner))

    def find(self, kind: str, name: str) -> Component:
        """The component a configuration names, plainly or as ``distribution:component``.

        Raises PluginError: nobody provides it (with near names, and the cause where its plugin failed), or two do.
        """
        owner, _, plain = name.rpartition(":")
        candidates = [item for item in self._components.get((kind, plain), []) if owner in ("", item.owner)]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            owners = " and ".join(f"{item.owner} {item.version}" for item in candidates)
            choices = " or ".join(f"`use: {item.qualified_name}`" for item in candidates)
            raise PluginError(f"{kind} `{name}` is registered by {owners}", remedy=f"write {choices}")
        raise self._nobody_provides(kind, name, plain)

    def _nobody_provides(self, kind: str, name: str, plain: str) -> PluginError:
        known = [item.name for item in self.components(kind)]
        failed = [record for record in self.records if record.status in ("failed", "incompatible")]
        other_kinds = [item.kind for item in self.components() if item.name == plain]
        near = get_close_matches(plain, known, n=3, cutoff=0.5)
        hints = []
        if near:
            hints.append("did you mean " + " or ".join(f"`{item}`" for item in near) + "?")
        elif other_kinds:
            hints.append(f"`{plain}` is a {other_kinds[0]}, not a {kind}")
        elif known:
            hints.append(f"there are: {', '.join(known)}")
        else:
            hints.append(f"no loaded plugin provides a {kind}")
        hints += [f"plugin {record.label} did not load: {record.error}" for record in failed]
        hints += _who_would(kind, plain, {record.name for record in self.records})
        blocked = [record.name for record in self.records if record.status == "blocked"]
        if blocked and not near:
            hints.append(f"blocked plugins: {', '.join(blocked)}")
        return PluginError(f"no {kind} is called `{name}`", remedy="; ".join(hints))


def _discover_again(found_by: Mapping[str, Any], expected: list[tuple[str, str]]) -> PluginRegistry:
    registry = PluginRegistry.discover(**found_by)
    found = [(record.label, record.status) for record in registry.records]
    if found != expected:
        here, there = ({f"{label}: {status}" for label, status in side} for side in (found, expected))
        raise PluginError(
            f"{platform.node()} has other plugins than the process that sent it work: "
            f"{', '.join(sorted(here ^ there))}",
            remedy="install the same versions on every machine",
        )
    return registry


def _who_would(kind: str, name: str, known: set[str]) -> list[str]:
    """What the registry of facts says of a component that nobody here provides."""
    from occframe_registry import plugins

    found = [entry for entry in plugins().values() if f"{kind}:{name}" in entry.components]
    return [
        f"plugin {entry.name} of {entry.distribution} has it"
        + ("" if entry.name in known else f": install {entry.distribution}")
        for entry in found
    ]


def _names(value: str | None) -> set[str]:
    return {name.strip() for name in (value or "").split(",") if name.strip()}


def _one_line(error: BaseException) -> str:
    name, said = type(error).__name__, first_line(error)
    return said if isinstance(error, OccframeError) or said == name else f"{name}: {said}"


def _check_hook_names(plugin: Any) -> None:
    """Functions with our prefix that are no hook of ours: misspelt, or written without the marker."""
    for name in dir(plugin):
        member = getattr(plugin, name, None)
        if name.startswith("occframe_") and inspect.isroutine(member):
            if name not in HOOK_KINDS:
                near = get_close_matches(name, HOOK_KINDS, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(HOOK_KINDS)}"
                raise PluginError(f"unknown hook {name}{hint}")
            if not hasattr(member, f"{hookspecs.PROJECT}_impl"):
                raise PluginError(f"hook {name} lacks the @occframe.hookimpl decorator, so it would never be called")


def _collect(
    found: list[Component],
    kind: str,
    source: _Source,
    name: str,
    factory: Lazy,
    *,
    config: str | type[BaseModel] | None,
    summary: str,
    caps: Iterable[str] = (),
) -> None:
    if not isinstance(name, str) or not name or any(character in name for character in ":./ "):
        raise PluginError(f"{kind} name {name!r}: a name is text without spaces, colons, dots or slashes")
    if not (callable(factory) or _is_lazy(factory)):
        raise PluginError(f'{kind} `{name}`: factory {factory!r} is neither callable nor "package.module:Name"')
    if kind != "command" and not (isinstance(config, type) or _is_lazy(config)):
        raise PluginError(f'{kind} `{name}`: config {config!r} is neither a pydantic model nor "package.module:Name"')
    if any(item.kind == kind and item.name == name for item in found):
        raise PluginError(f"{kind} `{name}` is registered twice by {source.name}")
    found.append(
        Component(
            kind, name, source.distribution, source.version, source.name, summary, factory, config, frozenset(caps)
        )
    )


def _is_lazy(value: Any) -> bool:
    return isinstance(value, str) and value.count(":") == 1 and all(value.split(":"))
