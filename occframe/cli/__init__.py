"""The ``occframe`` command. Each verb lives in its own module and is imported when it is used."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, cast

import click

from occframe.cli.lazy import LazyVerbs
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.plugins import Component

#: verb -> (module:command, one line). Kept here so that --help imports none of them.
COMMANDS = {
    "run": ("occframe.cli.run:run", "Run a pipeline, or go on where it stopped."),
    "validate": ("occframe.cli.validate:validate", "Check a pipeline file; every problem at once."),
    "schema": ("occframe.cli.schema:schema", "Print the JSON Schema of pipeline files, for editors."),
    "plugins": ("occframe.cli.plugins:plugins", "List plugins and the components they provide."),
    "new-plugin": ("occframe.cli.new_plugin:new_plugin", "Write the project of a new plugin, ready to install."),
    "weights": ("occframe.cli.weights:weights", "List, fetch and verify weights that others trained."),
    "data": ("occframe.cli.data:data", "Convert and inspect data sets of faces."),
    "gallery": ("occframe.cli.gallery:gallery", "Keep, change, check and search embeddings."),
    "bench": ("occframe.cli.bench:bench", "Compare systems on data sets and protocols."),
    "export": ("occframe.cli.export:export", "Write a trained model as ONNX or safetensors."),
    "doctor": ("occframe.cli.doctor:doctor", "Check this machine and installation, with remedies."),
}


class Verbs(LazyVerbs):
    """The core's verbs, and those that plugins add."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*super().list_commands(context), *self._added()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if command := super().get_command(context, name):
            return command
        component = self._added().get(name)
        return cast("click.Command", component.load_factory()) if component else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(context, formatter)
        if added := self._added():
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, f"{item.summary} ({item.owner})") for name, item in added.items()])

    def _added(self) -> dict[str, Component]:
        from occframe.plugins import PluginRegistry

        components = PluginRegistry.discover().components("command")
        return {item.name: item for item in components if item.name not in COMMANDS}


@click.group(cls=Verbs, verbs=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="occframe")
def cli() -> None:
    """Face recognition that survives occlusion: train, embed, index, evaluate.

    Start with: occframe run pipelines/quickstart.yaml
    """


def main() -> None:
    """Exit codes: 0 done, 1 failure, 2 bad usage or configuration, 130 interrupted."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    except OccframeError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) went away; Python would complain again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception:
        traceback.print_exc()
        click.secho(
            "error: this is a fault in occframe or a plugin; please report it with the lines above", fg="red", err=True
        )
        sys.exit(1)
