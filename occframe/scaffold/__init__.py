"""Writing a new plugin project: complete, installable, and passing the conformance suite as it is."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from occframe import __version__
from occframe.errors import OccframeError
from occframe.plugins import HOOK_KINDS


@dataclass(frozen=True)
class Kind:
    """What differs between kinds. title: of the component. use: how a pipeline names it, ``NAME`` for its name."""

    title: str
    use: str
    caps: tuple[str, ...] = ()
    factory: str = "{Class}"


_YAML = "In a pipeline:\n\n```yaml\n{}\n```"
KINDS: Mapping[str, Kind] = {
    "dataset": Kind("data set", _YAML.format("data:\n  faces: {use: NAME, table: faces.csv}")),
    "detector": Kind("face detector", _YAML.format("steps:\n  - {use: align, data: photographs, detector: NAME}")),
    "aligner": Kind("face aligner", _YAML.format("steps:\n  - {use: align, data: photographs, aligner: NAME}")),
    "occlusion": Kind(
        "occlusion generator",
        _YAML.format("steps:\n  - {use: embed, data: faces, model: net, occlusion: {use: NAME, grey: 90}}"),
        ("gpu",),
    ),
    "backbone": Kind(
        "backbone",
        _YAML.format("steps:\n  - {use: train, name: net, data: faces, backbone: NAME, losses: [cosface]}"),
        ("grad", "split", "gpu"),
    ),
    "loss": Kind(
        "loss term",
        _YAML.format("steps:\n  - {use: train, name: net, data: faces, backbone: mobilefacenet, losses: [NAME]}"),
        ("grad", "gpu"),
    ),
    "generator": Kind(
        "generator",
        _YAML.format("steps:\n  - {use: train_generator, data: faces, generator: NAME, occlusion: glasses}"),
        ("grad", "gpu"),
    ),
    "matcher": Kind(
        "matcher",
        _YAML.format("steps:\n  - {use: index, gallery: enrolled, matcher: NAME}"),
        ("incremental", "delete"),
    ),
    "protocol": Kind(
        "protocol",
        _YAML.format("steps:\n  - {use: evaluate, reference: enrolled, probes: {all: probes}, protocols: [NAME]}"),
    ),
    "step": Kind("pipeline step", _YAML.format("steps:\n  - {use: NAME, data: faces, at_least: 2}"), factory="build"),
    "tracker": Kind("tracker", _YAML.format("trackers: [NAME]")),
    "engine": Kind("engine", _YAML.format("engine: {use: NAME, workers: 4}")),
    "command": Kind("command", "It adds a verb:\n\n```sh\noccframe NAME GALLERY\n```", factory="{package}"),
}
_HOOK_OF = {kind: hook for hook, kind in HOOK_KINDS.items()}


def write_project(parent: Path, name: str, kind: str) -> list[Path]:
    """Write the project ``name`` with one component of ``kind`` into ``parent/name``. Returns its files.

    Raises OccframeError: a name that pip, Python or YAML would stumble over, or a folder that is there already.
    """
    package = _package_of(name)
    folder = parent / name
    if folder.exists():
        raise OccframeError(f"{folder} is there already", remedy="choose another name, or delete it")
    written = []
    for path, text in _project(name, package, kind):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        written.append(file)
    return written


def _package_of(name: str) -> str:
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(package):
        raise OccframeError(
            f"`{name}` is no name for a plugin", remedy="use lower case, digits and hyphens, such as night-masks"
        )
    if importlib.util.find_spec(package) is not None:
        raise OccframeError(
            f"`{name}` would be imported as `{package}`, and such a package is there already",
            remedy=f"choose another name, such as {name}-plugin",
        )
    return package


def _project(name: str, package: str, kind: str) -> Iterator[tuple[str, str]]:
    """Paths and texts of the files."""
    described = KINDS[kind]
    names = {
        "name": name,
        "package": package,
        "Class": "".join(part.capitalize() for part in name.split("-")),
        "version": __version__,
        "hook": _HOOK_OF[kind],
        "a_kind": f"{'an' if described.title[0] in 'aeiou' else 'a'} {described.title}",
        "use": described.use.replace("NAME", name),
    }
    names["A_kind"] = names["a_kind"].capitalize()
    names["summary"] = f"{names['a_kind']} of {name}"
    names["factory"] = described.factory.format_map(names)
    names["config"] = "None" if kind == "command" else f'"{package}.configs:{names["Class"]}Config"'
    caps = ", ".join(f'"{cap}"' for cap in described.caps)
    names["caps"] = f"\n        caps={{{caps}}}," if caps else ""
    yield "pyproject.toml", _filled("project/pyproject.toml", names)
    yield "README.md", _filled("project/README.md", names)
    yield ".gitignore", _filled("project/gitignore", names)
    yield ".github/workflows/tests.yml", _template("project/tests.yml")
    yield "tests/test_conformance.py", _filled("project/test_conformance.py", names)
    yield f"{package}/__init__.py", _filled("project/plugin.py", names)
    yield f"{package}/component.py", _filled(f"{kind}/component.py", names)
    if kind != "command":
        names["Base"] = "StepConfig" if kind == "step" else "Config"
        names["options"] = _template(f"{kind}/options").rstrip()
        configs = _filled("project/configs.py", names)
        if kind == "step":
            configs = configs.replace("import StepConfig", "import DataRef, StepConfig")
        yield f"{package}/configs.py", configs


def _template(path: str) -> str:
    return (files("occframe.scaffold") / "templates" / path).read_text(encoding="utf-8")


def _filled(path: str, names: Mapping[str, str]) -> str:
    """``{{name}}`` replaced; a name that is not known is a KeyError."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: names[found[1]], _template(path))
