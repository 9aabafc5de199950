"""YAML read safely, with the line and column of every key and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from occframe.errors import ConfigError, Problem

MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # aliases can make a small file expand without bound

KeyPath = tuple[str | int, ...]


class _Constructor(RoundTripConstructor):
    """Says at which line a value or key cannot be built, where ruamel lets Python's own errors through."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if isinstance(node, MappingNode):
            for key, _ in node.value:
                if not isinstance(key, ScalarNode):
                    raise ConstructorError(problem="a key is a single word or number", problem_mark=key.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError) as error:
            if not isinstance(node, ScalarNode):
                raise
            what = f"`{node.value[:40]}` is no {str(node.tag).rpartition(':')[2]}"
            raise ConstructorError(problem=what, problem_mark=node.start_mark) from error


@dataclass(frozen=True)
class YamlFile:
    """name: as the user wrote it. value: plain dicts, lists and scalars. tree: ruamel's, which knows positions."""

    name: str
    value: Any
    tree: Any

    def where(self, path: KeyPath, *, key: bool = False) -> str:
        """``file:line:column`` of the value at ``path`` (or of its key), or of the nearest thing above it."""
        node, position = self.tree, (0, 0)
        for part in path:
            if not _has(node, part):
                break
            # What a merge (`<<: *base`) brought has no place of its own here.
            marks = (node.lc.data or {}).get(part)
            at_value = 2 if isinstance(node, CommentedMap) and not key else 0
            if marks:
                position = tuple(marks[at_value : at_value + 2])
            node = node[part]
        return f"{self.name}:{position[0] + 1}:{position[1] + 1}"


def read_yaml(path: Path | str) -> YamlFile:
    """Raises ConfigError: no such file, not YAML, duplicate keys, too large."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError([Problem(str(path), "", f"larger than {MAX_BYTES} bytes; this is no pipeline")])
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), "", "no such file")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error}")]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> YamlFile:
    # The round-trip loader builds plain containers only: tags such as !!python/object stay inert text.
    loader = YAML(typ="rt", pure=True)
    loader.Constructor = _Constructor
    try:
        tree = loader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what = (error.problem or "not valid YAML").strip()
        if "duplicate key" in what:
            what = what.split(" with value")[0]
        raise ConfigError([Problem(where, "", what)]) from error
    except ReaderError as error:
        # Its position counts characters of the text.
        before = text[: error.position]
        where = f"{name}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
        what = f"the character U+{error.character:04X} is not allowed in YAML"
        raise ConfigError([Problem(where, "", what, "remove it, or write it as an escape in double quotes")]) from error
    except (YAMLError, ValueError, TypeError, LookupError) as error:
        raise ConfigError([Problem(name, "", f"not valid YAML: {error}")]) from error
    except RecursionError:
        raise ConfigError([Problem(name, "", "nested too deeply")]) from None
    return YamlFile(name, _plain(tree, name, [0], 0), tree)


def dump_yaml(value: Any) -> str:
    dumper = YAML()
    dumper.default_flow_style = False
    dumper.width = 120
    stream = StringIO()
    dumper.dump(value, stream)
    return stream.getvalue()


def parse_scalar(text: str) -> Any:
    """The value of one ``--set key=VALUE``, written as YAML."""
    return parse_yaml(text, "--set").value


def _has(node: Any, part: str | int) -> bool:
    if isinstance(node, CommentedMap):
        return part in node
    return isinstance(node, CommentedSeq) and isinstance(part, int) and 0 <= part < len(node)


def _plain(node: Any, name: str, count: list[int], depth: int) -> Any:
    count[0] += 1
    if count[0] > MAX_NODES or depth > 100:
        raise ConfigError([Problem(name, "", "expands to an unreasonable size; check its anchors and aliases")])
    if isinstance(node, Mapping):
        return {_plain(key, name, count, depth + 1): _plain(item, name, count, depth + 1) for key, item in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str | bytes):
        return [_plain(item, name, count, depth + 1) for item in node]
    if isinstance(node, bool) or node is None:
        return bool(node) if node is not None else None
    for plain in (int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return str(getattr(node, "value", node))  # tagged scalars, dates
