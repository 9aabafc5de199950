"""The command line itself: help, usage errors, listings, and commands that plugins add."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner

from occframe.cli.component_options import show
from occframe.plugins import PluginRegistry


def occframe(*arguments, **options):
    command = [sys.executable, "-m", "occframe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_lists_every_verb():
    done = occframe("--help")
    assert done.returncode == 0
    for verb in ("run", "validate", "schema", "plugins", "bench", "doctor"):
        assert f"\n  {verb} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "No such command 'rum'"),
        (["run"], "Missing argument 'PIPELINE'"),
        (["run", "x.yaml", "--from", "a", "--only", "b"], "--from and --only exclude each other"),
        (["run", "no-such-file.yaml"], "no-such-file.yaml: no such file"),
    ],
)
def test_bad_usage_exits_with_2(arguments, message):
    done = occframe(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_component_tells_its_options():
    told = " ".join(occframe("plugins", "show", "glasses").stdout.split())
    assert told.startswith("occlusion glasses (occframe ")
    assert "values: clear, tinted, gradient, reflective, dark, mirror" in told
    assert "default: 0.6" in told
    (found,) = json.loads(occframe("plugins", "show", "--json", "parquet").stdout)
    url = found["options"][0]
    assert (found["kind"], url["name"], url["needed"]) == ("dataset", "url", True)
    assert "See `occframe deglass --help`" in occframe("plugins", "show", "deglass").stdout
    wrong = occframe("plugins", "show", "glases")
    assert wrong.returncode == 1
    assert "did you mean `glasses`?" in wrong.stderr


def test_options_of_a_plugin_may_have_any_default(tmp_path):
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        textwrap.dedent(
            """
            from pydantic import ConfigDict
            from occframe import Config, hookimpl

            class Thing: ...

            class OddConfig(Config):
                model_config = ConfigDict(arbitrary_types_allowed=True)
                thing: Thing = Thing()
                raw: bytes = b"\\xff"
                far: float = float("inf")

            @hookimpl
            def occframe_register_occlusions(register):
                register("hat", lambda config, context: None, config=OddConfig, summary="an odd hat")
            """
        )
    )
    told = occframe("plugins", "show", "hat", "--inline-plugin", str(plugin))
    assert told.returncode != 0
    assert "registered by" in told.stderr
    told = occframe("plugins", "show", "inline odd.py:hat", "--inline-plugin", str(plugin), "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)[0]["options"][2]["default"] == "Infinity"
    assert occframe("plugins", "show", "occframe:hat", "--inline-plugin", str(plugin)).returncode == 0


def test_every_component_tells_its_options():
    """Also where what it can be given is no plain word: tables, paths, blocks of others."""
    runner = CliRunner()
    for item in PluginRegistry.discover().components():
        done = runner.invoke(show, [item.name, "--kind", item.kind], catch_exceptions=False)
        assert item.summary in done.output


def test_plugins_as_json():
    listing = json.loads(occframe("plugins", "--json").stdout)
    assert {"name": "steps", "distribution": "occframe", "status": "loaded"}.items() <= next(
        plugin for plugin in listing["plugins"] if plugin["name"] == "steps"
    ).items()
    assert {"kind", "name", "owner", "version", "plugin", "summary", "caps"} == set(listing["components"][0])


def test_validate_as_json(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("run_dir: x\nsteps: [{use: nothing}]\n")
    done = occframe("validate", str(file), "--json")
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["where"] == f"{file}:2:9"
    assert problem["message"] == "no step is called `nothing`"


def test_doctor_as_json():
    done = occframe("doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert {"what", "level", "found", "remedy"} == set(json.loads(done.stdout)[0])


@pytest.fixture
def site(tmp_path):
    """A folder on sys.path with an installed distribution in it, as pip leaves one."""

    def install(name, module):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(module))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[occframe]\n{name} = {name}\n")

    install.path = tmp_path
    return install


def test_a_plugin_adds_a_command(site, monkeypatch):
    site(
        "greeter",
        """
        import click
        from occframe import hookimpl

        @click.command()
        def greet():
            click.echo("hello from a plugin")

        @hookimpl
        def occframe_register_commands(register):
            register("greet", "greeter:greet", config=None, summary="Say hello.")
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(site.path))
    assert re.search(r"greet +Say hello\. \(greeter\)", occframe("--help").stdout)
    assert occframe("greet").stdout == "hello from a plugin\n"


def test_a_broken_installed_plugin_costs_only_its_own_line(site, monkeypatch):
    site("broken", "import nothing_of_that_name\n")
    monkeypatch.setenv("PYTHONPATH", str(site.path))
    assert occframe("--help").returncode == 0
    listing = occframe("plugins")
    assert listing.returncode == 0
    assert "broken (broken 1.0): failed: ModuleNotFoundError: No module named 'nothing_of_that_name'" in listing.stdout
    strict = occframe("plugins", "--strict-plugins")
    assert strict.returncode == 1
    assert "plugins that did not load: broken" in strict.stderr
    doctor = occframe("doctor")
    assert doctor.returncode == 1
    assert "OCCFRAME_DISABLED_PLUGINS=broken" in doctor.stdout


def test_two_distributions_may_use_one_entry_point_name(site, monkeypatch):
    plugin = """
        from occframe import Config, hookimpl

        @hookimpl
        def occframe_register_losses(register):
            register("mine", "x:y", config="x:z", summary="")
        """
    site("alpha", plugin)
    site("beta", plugin)
    for name in ("alpha", "beta"):
        points = site.path / f"{name}-1.0.dist-info" / "entry_points.txt"
        points.write_text(f"[occframe]\nsame = {name}\n")
    monkeypatch.setenv("PYTHONPATH", str(site.path))
    listing = json.loads(occframe("plugins", "--json").stdout)
    assert [item["owner"] for item in listing["components"] if item["name"] == "mine"] == ["alpha", "beta"]
