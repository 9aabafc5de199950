"""What pages say of the code is written from the code: ``python -m tests.docs.write_pages`` writes it anew.

docs/cli.md, the checks in docs/conformance.md, the examples in docs/hooks.md, the bundled plugins in the registry.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import tempfile
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import click

from occframe import hookspecs
from occframe.cli import cli
from occframe.plugins import HOOK_KINDS, KINDS, PluginRegistry
from occframe.scaffold import write_project
from occframe.testing.suite import checks_of

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- written by tests/docs/write_pages.py -->", "<!-- end -->"

#: What a plugin's components need beyond the distribution itself.
EXTRAS = {
    "datasets": ["demo"],
    "aligners": ["detect"],
    "backbones": ["onnx"],
    "faiss": ["cpu", "gpu"],
    "trackers": ["tensorboard", "mlflow"],
    "ray": ["ray"],
}


def pages() -> dict[Path, str]:
    """Every file that is written, with its text."""
    conformance, hooks = ROOT / "docs" / "conformance.md", ROOT / "docs" / "hooks.md"
    return {
        ROOT / "docs" / "cli.md": cli_page(),
        conformance: _with_section(conformance, check_tables()),
        hooks: _with_section(hooks, hook_examples()),
        ROOT / "registry" / "occframe_registry" / "plugins.toml": plugins_toml(),
    }


def _with_section(page: Path, text: str) -> str:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{rest.partition(END)[2]}"


def hook_examples() -> str:
    """Of every hook its signature, its sentence, and the component that ``new-plugin`` writes for its kind."""
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for hook, kind in HOOK_KINDS.items():
            name = f"my-{kind}"
            write_project(Path(folder), name, kind)
            package = Path(folder) / name / name.replace("-", "_")
            specification = getattr(hookspecs, hook)
            title = f"### `{hook}({', '.join(inspect.signature(specification).parameters)})`"
            texts = [
                f"# {file}\n{(package / file).read_text()}"
                for file in ("__init__.py", "configs.py", "component.py")
                if (package / file).is_file()
            ]
            sentence = inspect.cleandoc(specification.__doc__).replace("``", "`")
            sections += [title, sentence, *(f"```python\n{text.rstrip()}\n```" for text in texts)]
    return "\n\n".join(sections)


def cli_page() -> str:
    """The help of every verb, as it is printed on 100 columns."""
    head = "# Command line\n\n<!-- written by tests/docs/write_pages.py, not by hand -->\n"
    return head + "".join(f"\n## {name}\n\n```\n{text.rstrip()}\n```\n" for name, text in _helps("occframe", cli, None))


def _helps(path: str, command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    settings = command.context_settings | {"terminal_width": 100, "max_content_width": 100}
    with click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **settings) as context:
        command = copy(command)
        command._help_option = None  # as click made it for a test that called this command alone, with other names
        yield path, command.get_help(context)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None, name
                yield from _helps(f"{path} {name}", child, context)


def check_tables() -> str:
    shared = {check.name for check in checks_of("dataset") if check.run.__module__.endswith("any_component")}
    lines = []
    for group in ["plugin", "any_component", *KINDS]:
        title = {"plugin": "Every plugin", "any_component": "Every component"}.get(group, group.capitalize())
        found = checks_of("dataset" if group == "any_component" else group)
        chosen = [check for check in found if (check.name in shared) == (group == "any_component")]
        lines += [f"### {title}", "", "| check | tier | since | what is promised |", "|---|---|---|---|"]
        for check in chosen:
            about = f" (capability `{check.needs}`)" if check.needs else ""
            summary = check.summary.replace("``", "`")
            lines.append(f"| `{check.name}`{about} | {check.tier} | {check.since} | {summary} |")
        lines.append("")
    return "\n".join(lines)


def plugins_toml() -> str:
    lines = [
        "# Plugins that can be installed, so that a name nobody here provides can be answered with what to install.",
        "# Those of occframe are written by `python -m tests.docs.write_pages`.",
    ]
    metadata = importlib.metadata.metadata("occframe")
    records = PluginRegistry.discover(only=["occframe"], environ={}).records
    for record in sorted((item for item in records if item.distribution == "occframe"), key=lambda item: item.name):
        components = [f"{item.kind}:{item.name}" for item in record.components]
        lines += ["", f"[{record.name}]", 'distribution = "occframe"', f'summary = "{_summary(record.name)}"']
        lines += [f'licence = "{metadata["License-Expression"]}"']
        if record.name in EXTRAS:
            lines.append(f"extras = {EXTRAS[record.name]}".replace("'", '"'))
        lines += ["components = [", *(f'    "{item}",' for item in components), "]"]
    return "\n".join(lines) + "\n"


def _summary(name: str) -> str:
    """The first line of the docstring of the plugin's module."""
    (point,) = (
        item
        for item in importlib.metadata.distribution("occframe").entry_points
        if (item.group, item.name) == ("occframe", name)
    )
    return (point.load().__doc__ or "").strip().splitlines()[0].replace("``", "").replace('"', "'")


if __name__ == "__main__":
    os.environ["OCCFRAME_LOAD_PLUGINS"] = "occframe"  # pages must not depend on what else is installed
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
