"""The pipeline a YAML file describes: checked as a whole, every problem at once, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from occframe.component import ComponentBlock, Config, DatasetBlock, EngineBlock, Reference, TrackerBlock
from occframe.data.splits import SplitPart, part_problems
from occframe.errors import ConfigError, Problem
from occframe.plugins import PluginRegistry
from occframe.step import StepConfig
from occframe.yamlfile import KeyPath, YamlFile, parse_scalar

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class DataBlock(DatasetBlock):
    splits: dict[Name, SplitPart] = Field(
        {}, description="named parts, by identity and by image; see docs/quickstart.md"
    )

    @field_validator("splits")
    @classmethod
    def _parts_fit_together(cls, splits: dict[str, SplitPart]) -> dict[str, SplitPart]:
        for name, problem in part_problems(splits):
            raise PydanticCustomError("split", "split `{name}`: {problem}", {"name": name, "problem": problem})
        return splits


class StepBlock(ComponentBlock):
    kind = "step"
    name: Name | None = Field(None, description="what later steps call it; the step's own name where absent")

    @property
    def label(self) -> str:
        return self.name or self.use.rpartition(":")[2]


class PipelineConfig(Config):
    """A pipeline: where the faces come from, and the steps in their order."""

    version: Literal[1] = Field(1, description="format of this file")
    name: Name = Field("pipeline", description="a short name for listings and reports")
    run_dir: str = Field(description="where everything is kept: a directory or any fsspec URL")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="every random choice of the run derives from it")
    device: str = Field("auto", description="auto (CUDA when there is one), cpu, cuda, cuda:1, …")
    plugins: list[str] = Field(
        [], description="inline plugin files to load; running code found beside a file is opt-in"
    )
    engine: EngineBlock = Field(
        default_factory=EngineBlock.model_construct, description="on what it runs; see docs/scale.md"
    )
    trackers: list[TrackerBlock] = Field([], description="where figures are sent while the run goes on")
    data: dict[Name, DataBlock] = Field({}, description="data sets by name")
    steps: list[StepBlock] = Field(min_length=1, description="what to do, in order")


@dataclass(frozen=True)
class Use:
    """One reference in a configuration: step number ``step`` names ``reference`` at ``path``."""

    step: int
    path: KeyPath
    reference: Reference


@dataclass(frozen=True)
class Pipeline:
    """A valid pipeline. source: where it was read."""

    config: PipelineConfig
    source: YamlFile

    @cached_property
    def steps(self) -> Mapping[str, StepBlock]:
        return {block.label: block for block in self.config.steps}

    def references(self, name: str) -> list[Reference]:
        """What step ``name`` refers to, without repetition."""
        number = list(self.steps).index(name)
        return list(dict.fromkeys(use.reference for use in _uses(self.config) if use.step == number))


def load_pipeline(file: YamlFile, registry: PluginRegistry, overrides: Sequence[str] = ()) -> Pipeline:
    """Validate a pipeline file. overrides: ``key.path=value`` texts of ``--set``; steps and data are addressed by name.

    Raises ConfigError with every problem found.
    """
    raw = file.value
    if not isinstance(raw, dict):
        raise ConfigError([Problem(file.where(()), "", "a pipeline is a mapping with `run_dir` and `steps`")])
    overridden = [_override(raw, text) for text in overrides]
    try:
        config = PipelineConfig.model_validate(raw, context={"registry": registry})
    except ValidationError as error:
        raise ConfigError(problems_of(error, raw, file, overridden)) from None
    if problems := list(_check_names(config, file)) or list(_check_references(config, file)):
        raise ConfigError(problems)
    return Pipeline(config, file)


# --- --set ------------------------------------------------------------------------------------------------------------


def _override(raw: dict[str, Any], text: str) -> KeyPath:
    """Change ``raw`` as ``key.path=value`` says; return the path changed."""
    key, equals, value = text.partition("=")
    where = f"--set {text}"
    if not equals or not key.strip():
        raise ConfigError([Problem(where, "", "written key.path=value, e.g. --set steps.train.epochs=3")])
    parts = key.strip().split(".")
    if parts[0] == "plugins":
        message = "plugins are loaded before --set is read"
        raise ConfigError([Problem(where, "plugins", message, "load it with --inline-plugin FILE")])
    node: Any = raw
    path: list[str | int] = []
    for number, part in enumerate(parts):
        entry = _entry_number(node, part, where, ".".join(parts[: number + 1])) if isinstance(node, list) else part
        if path == ["data"] and isinstance(node, dict) and entry not in node:
            raise ConfigError([_no_data_set(part, [str(name) for name in node], where)])
        path.append(entry)
        if number == len(parts) - 1:
            try:
                node[entry] = parse_scalar(value)
            except ConfigError as error:
                raise ConfigError([replace(problem, where=where) for problem in error.problems]) from error
            break
        child = node[entry] if _holds(node, entry) else None
        if not isinstance(child, dict | list):
            # A block written short (`matcher: torch`) becomes the mapping it stands for.
            node[entry] = {"use": child} if isinstance(child, str) else {}
        node = node[entry]
    return tuple(path)


def _no_data_set(name: str, names: list[str], where: str) -> Problem:
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(names)}" if names else None
    return Problem(where, f"data.{name}", f"no data set `{name}`", hint)


def _entry_number(entries: list[Any], name: str, where: str, path: str) -> int:
    names = [_entry_name(entry) for entry in entries]
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(entries):
        return int(name)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(names)}"
    raise ConfigError([Problem(where, path, f"no entry `{name}` here", hint)])


def _entry_name(item: Any) -> str:
    if isinstance(item, Mapping):
        return str(item.get("name") or item.get("use"))
    return str(item)


# --- problems with places ---------------------------------------------------------------------------------------------


def problems_of(error: ValidationError, raw: Any, file: YamlFile, overridden: Sequence[KeyPath] = ()) -> list[Problem]:
    """pydantic's errors as problems with file, line and column, in the order of the file."""
    found: dict[tuple[KeyPath, str], Problem] = {}
    for item in error.errors(include_url=False):
        path = _yaml_path(item["loc"], raw)
        unknown = item["type"] in ("unknown_key", "extra_forbidden")
        about_key = item["type"] == "invalid_key" or item["loc"][-1:] == ("[key]",)
        where = file.where(path, key=unknown or about_key)
        for changed in overridden:
            if path[: len(changed)] == changed:
                where = "--set " + _dotted(changed, raw)
        message = _message(item)
        # Every branch of a union says why the value does not fit it, at the same place: one problem, not three.
        same_place = (path, str(item["loc"][-1]) if item["type"] == "missing" or about_key else "")
        if same_place in found and message not in found[same_place].message:
            message = f"{found[same_place].message}; or: {message}"
        remedy = (item.get("ctx") or {}).get("remedy")
        if about_key and not isinstance(item["input"], str):
            remedy = "write the key in quotes"
        found[same_place] = Problem(where, _dotted(path, raw), message, remedy)
    return sorted(found.values(), key=lambda problem: _position(problem.where))


def _message(item: ErrorDetails) -> str:
    if item["type"] == "missing":
        return f"`{item['loc'][-1]}` is required"
    if item["type"] == "value_error":
        return str((item.get("ctx") or {}).get("error", item["msg"]))
    says_it_all = item["type"] in ("unknown_key", "plugin", "component_block") or isinstance(item["input"], dict | list)
    return item["msg"] if says_it_all else f"{item['msg']}, not {item['input']!r}"


def _yaml_path(location: tuple[str | int, ...], raw: Any) -> KeyPath:
    """Where in the file pydantic's location lies: the `config` level of a block is not written, unions add none."""
    path: list[str | int] = []
    node = raw
    for part in location:
        if isinstance(node, Mapping) and part not in node:
            # pydantic writes keys such as 1.5 and null as text.
            part = next((key for key in node if str(key) == part), part)
        if _holds(node, part):
            node = node[part]
            path.append(part)
        elif part != "config":
            break
    return tuple(path)


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(node, list):
        return isinstance(part, int) and part < len(node)
    return isinstance(node, Mapping) and part in node


def _dotted(path: KeyPath, raw: Any) -> str:
    """``steps.train.epochs``: entries of a list by their name, as --set addresses them."""
    parts, node = [], raw
    for part in path:
        child = node[part]
        named = isinstance(node, list) and isinstance(child, Mapping | str)
        parts.append(_entry_name(child) if named else str(part))
        node = child
    return ".".join(parts)


def _position(where: str) -> tuple[int, int]:
    _, _, rest = where.partition(":")
    line, _, column = rest.rpartition(":")
    line = line.rpartition(":")[2]
    return (int(line), int(column)) if line.isdecimal() and column.isdecimal() else (0, 0)


# --- names and references ---------------------------------------------------------------------------------------------


def _check_names(config: PipelineConfig, file: YamlFile) -> Iterator[Problem]:
    for name, data in config.data.items():
        for part, message in part_problems(data.splits):
            yield Problem(file.where(("data", name, "splits", part)), f"data.{name}.splits.{part}", message)
    seen = dict.fromkeys(config.data, "data set")
    for number, block in enumerate(config.steps):
        if block.label in seen:
            where = file.where(("steps", number))
            message = f"`{block.label}` is already the name of a {seen[block.label]}"
            yield Problem(where, f"steps.{block.label}", message, "give this step a `name:` of its own")
        seen[block.label] = "step"


def _check_references(config: PipelineConfig, file: YamlFile) -> Iterator[Problem]:
    made: dict[str, tuple[int, str]] = {}  # reference -> (number of the step that makes it, kind)
    for name, data in config.data.items():
        made |= {name: (-1, "dataset")} | {f"{name}.{part}": (-1, "dataset") for part in data.splits}
    for number, block in enumerate(config.steps):
        assert isinstance(block.config, StepConfig)
        for part, kind in block.config.outputs().items():
            made[f"{block.label}.{part}" if part else block.label] = (number, kind)
    uses = [use for use in _uses(config) if not use.reference.is_external]
    needs = {(use.step, made[use.reference][0]) for use in uses if use.reference in made}
    labels = [block.label for block in config.steps]
    for use in uses:
        where = file.where(use.path)
        path = _dotted(use.path, file.value)
        wanted = use.reference.kind
        if use.reference not in made:
            options = [name for name, (_, kind) in made.items() if kind == wanted]
            near = get_close_matches(use.reference, options, n=2, cutoff=0.5)
            listed = f"there are: {', '.join(options)}" if options else f"no data set or step gives a {wanted}"
            remedy = f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else listed
            yield Problem(where, path, f"nothing is called `{use.reference}` ({wanted})", remedy)
            continue
        maker, kind = made[use.reference]
        if kind != wanted:
            options = [name for name, (_, other) in made.items() if other == wanted]
            listed = f"of kind {wanted} there are: {', '.join(options)}" if options else f"nothing here is a {wanted}"
            yield Problem(where, path, f"`{use.reference}` is of kind {kind}, this needs {wanted}", listed)
        elif maker >= use.step:
            if cycle := _way_back(needs, use.step, maker):
                chain = " -> ".join(f"`{labels[step]}`" for step in [use.step, *cycle])
                yield Problem(where, path, f"steps refer to each other in a circle: {chain}", "break the circle")
            else:
                remedy = f"move step `{labels[maker]}` above `{labels[use.step]}`"
                yield Problem(where, path, f"`{use.reference}` is made by a later step", remedy)


def _way_back(needs: set[tuple[int, int]], goal: int, start: int) -> list[int] | None:
    """The steps from ``start`` along what each needs until ``goal``, or None."""
    paths = [[start]]
    seen = {start}
    while paths:
        path = paths.pop(0)
        if path[-1] == goal:
            return path
        for step, needed in sorted(needs):
            if step == path[-1] and needed >= 0 and needed not in seen:
                seen.add(needed)
                paths.append([*path, needed])
    return None


def _uses(config: PipelineConfig) -> Iterator[Use]:
    for number, block in enumerate(config.steps):
        for path, reference in find_references(block):
            yield Use(number, ("steps", number, *path), reference)


def find_references(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Reference]]:
    """Every reference inside a validated configuration, with its path as written in YAML."""
    if isinstance(value, Reference):
        yield path, value
    elif isinstance(value, ComponentBlock):
        for name in type(value).model_fields:
            inner = path if name == "config" else (*path, name)
            yield from find_references(getattr(value, name), inner)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from find_references(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_references(item, (*path, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from find_references(item, (*path, number))
