"""Discovery, conflicts, blocking and the messages a user reads when a plugin is at fault."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from occframe import hookimpl
from occframe.component import Config
from occframe.errors import PluginError
from occframe.plugins import PluginRegistry

BUNDLED = sorted(point.name for point in entry_points(group="occframe") if point.dist.name == "occframe")


class Nothing(Config):
    pass


def backbone_plugin(name="net", **changes):
    @hookimpl
    def occframe_register_backbones(register):
        register(name, lambda config, context: None, config=Nothing, summary="a net", **changes)

    return plugin_of(occframe_register_backbones=occframe_register_backbones)


def plugin_of(**hooks):
    module = ModuleType("a_plugin")
    vars(module).update(hooks)
    return module


def empty_registry():
    return PluginRegistry.discover(only=[])


def test_core_runs_with_no_plugin():
    registry = empty_registry()
    assert registry.components() == []
    assert {record.status for record in registry.records} == {"blocked"}


def test_bundled_plugins_all_load():
    registry = PluginRegistry.discover(environ={})
    statuses = {record.name: record.status for record in registry.records if record.distribution == "occframe"}
    assert statuses == dict.fromkeys(BUNDLED, "loaded")


@pytest.mark.parametrize("plugin", BUNDLED)
def test_blocking_one_plugin_leaves_the_others(plugin):
    registry = PluginRegistry.discover(environ={"OCCFRAME_DISABLED_PLUGINS": plugin})
    statuses = {record.name: record.status for record in registry.records if record.distribution == "occframe"}
    assert statuses.pop(plugin) == "blocked"
    assert set(statuses.values()) == {"loaded"}


def test_only_the_listed_plugins_load():
    registry = PluginRegistry.discover(environ={"OCCFRAME_LOAD_PLUGINS": "losses, steps"})
    assert {record.name for record in registry.records if record.status == "loaded"} == {"losses", "steps"}


def test_a_name_taken_twice_is_an_error_that_names_both_owners_and_the_way_out():
    registry = empty_registry()
    registry.register(backbone_plugin(), name="a", distribution="alpha", version="1")
    registry.register(backbone_plugin(), name="b", distribution="beta", version="2")
    with pytest.raises(PluginError, match="registered by alpha 1 and beta 2") as caught:
        registry.find("backbone", "net")
    assert "`use: alpha:net` or `use: beta:net`" in caught.value.remedy
    assert registry.find("backbone", "beta:net").owner == "beta"


def test_one_plugin_registering_a_name_twice_is_rolled_back():
    plugin = backbone_plugin()

    @hookimpl
    def occframe_register_losses(register):
        register("loss", lambda config, context: None, config=Nothing, summary="")
        register("loss", lambda config, context: None, config=Nothing, summary="")

    plugin.occframe_register_losses = occframe_register_losses
    registry = empty_registry()
    record = registry.register(plugin, name="twice", distribution="dist")
    assert record.status == "failed"
    assert record.error == "loss `loss` is registered twice by twice"
    assert registry.components() == []


def test_a_misspelt_hook_is_found_and_a_name_suggested():
    plugin = plugin_of(occframe_register_backbone=backbone_plugin().occframe_register_backbones)
    record = empty_registry().register(plugin, name="p", distribution="dist")
    assert record.status == "failed"
    assert record.error == "unknown hook occframe_register_backbone; did you mean occframe_register_backbones?"


def test_a_hook_without_its_marker_is_found():
    def occframe_register_losses(register): ...

    plugin = plugin_of(occframe_register_losses=occframe_register_losses)
    record = empty_registry().register(plugin, name="p", distribution="dist")
    assert "lacks the @occframe.hookimpl decorator" in record.error


def test_a_plugin_for_another_api_version_is_not_called():
    plugin = backbone_plugin()
    plugin.OCCFRAME_API_VERSION = 99
    record = empty_registry().register(plugin, name="p", distribution="dist")
    assert record.status == "incompatible"
    assert "needs occframe plugin API 99, this occframe has 1: upgrade occframe" in record.error


def test_a_failed_import_is_kept_and_told_to_whoever_names_its_component(tmp_path):
    broken = tmp_path / "broken_plugin.py"
    broken.write_text("import a_module_that_is_not_there\n")
    registry = PluginRegistry.discover(only=[], inline=[broken])
    (record,) = [item for item in registry.records if item.status == "failed"]
    assert "No module named 'a_module_that_is_not_there'" in record.error
    assert "broken_plugin.py" in record.details
    with pytest.raises(PluginError, match="no backbone is called `net`") as caught:
        registry.find("backbone", "net")
    assert "a_module_that_is_not_there" in caught.value.remedy


def test_a_lazy_factory_that_cannot_load_names_the_component_and_its_owner():
    registry = empty_registry()

    @hookimpl
    def occframe_register_losses(register):
        register("late", "no_such_module:Loss", config=Nothing, summary="")

    registry.register(plugin_of(occframe_register_losses=occframe_register_losses), name="p", distribution="dist")
    component = registry.find("loss", "late")
    with pytest.raises(PluginError, match=r"loss `late` of dist cannot load its factory no_such_module:Loss"):
        component.load_factory()


def test_near_names_and_other_kinds_are_suggested():
    registry = empty_registry()
    registry.register(backbone_plugin("iresnet50"), name="a", distribution="alpha")
    with pytest.raises(PluginError) as caught:
        registry.find("backbone", "iresnet5O")
    assert "did you mean `iresnet50`?" in caught.value.remedy
    with pytest.raises(PluginError) as caught:
        registry.find("loss", "iresnet50")
    assert "`iresnet50` is a backbone, not a loss" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"name": "a b"}, "a name is text without spaces"), ({"name": ""}, "a name is text")],
)
def test_unusable_names_are_refused(changes, message):
    record = empty_registry().register(backbone_plugin(**changes), name="p", distribution="dist")
    assert message in record.error


LISTS_WITHOUT_WEIGHT = """
import sys
from occframe.cli import main
sys.argv = ["occframe", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = [name for name in ("torch", "faiss", "cv2", "pyarrow", "numpy", "rich") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "--json"]])
def test_listing_imports_nothing_heavy(arguments):
    code = LISTS_WITHOUT_WEIGHT.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_validation_imports_nothing_heavy(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "run_dir: runs/x\ndata: {faces: {use: synthetic}}\nsteps:\n"
        "  - {use: train, data: faces, epochs: 1, backbone: mobilefacenet, losses: [cosface]}\n"
        "  - {use: embed, data: faces, model: train}\n"
    )
    code = LISTS_WITHOUT_WEIGHT.format(arguments=["validate", str(file)]).replace('"numpy", "rich"', "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
