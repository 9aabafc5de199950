"""What a user reads when a pipeline file is wrong: every problem at once, each with file, line, column and remedy."""

from __future__ import annotations

from types import ModuleType

import pytest
from click.testing import CliRunner
from pydantic import Field

from occframe import hookimpl
from occframe.cli.bench import run as bench_run
from occframe.cli.common import load as load_with_plugins
from occframe.component import BackboneBlock, Config, DataRef, ModelRef
from occframe.config import load_pipeline
from occframe.errors import ConfigError
from occframe.plugins import PluginRegistry
from occframe.schema import pipeline_schema
from occframe.step import StepConfig
from occframe.yamlfile import parse_yaml


class FacesConfig(Config):
    path: str


class NetConfig(Config):
    width: int = Field(64, ge=8, le=512)
    inner: BackboneBlock | None = None


class Optimiser(Config):
    learning_rate: float = Field(0.1, gt=0)


class TrainConfig(StepConfig):
    produces = "model"
    data: DataRef
    backbone: BackboneBlock
    start: ModelRef | None = None
    epochs: int = Field(1, ge=1)
    optimiser: Optimiser = Optimiser()


class CompareConfig(StepConfig):
    produces = "evaluation"
    models: dict[str, ModelRef]


@pytest.fixture
def registry():
    plugin = ModuleType("plugin")

    @hookimpl
    def occframe_register_datasets(register):
        register("faces", lambda config, context: None, config=FacesConfig, summary="faces")

    @hookimpl
    def occframe_register_backbones(register):
        register("net", lambda config, context: None, config=NetConfig, summary="a net")

    @hookimpl
    def occframe_register_steps(register):
        register("train", lambda config, context: None, config=TrainConfig, summary="trains")
        register("compare", lambda config, context: None, config=CompareConfig, summary="compares")

    vars(plugin).update(
        occframe_register_datasets=occframe_register_datasets,
        occframe_register_backbones=occframe_register_backbones,
        occframe_register_steps=occframe_register_steps,
    )
    registry = PluginRegistry.discover(only=[])
    registry.register(plugin, name="test", distribution="test-dist")
    return registry


GOOD = """\
run_dir: runs/x
data:
  photos: {use: faces, path: here}
steps:
  - use: train
    data: photos
    backbone: {use: net, width: 32}
  - use: train
    name: second
    data: photos
    start: train
    backbone: net
  - use: compare
    models: {a: train, b: second}
"""


def load(text, registry, *overrides):
    return load_pipeline(parse_yaml(text, "p.yaml"), registry, overrides)


def problems(text, registry, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(text, registry, *overrides)
    return [(problem.where, problem.path, problem.message, problem.remedy) for problem in caught.value.problems]


def test_a_good_file_loads_with_nested_components_and_references(registry):
    pipeline = load(GOOD, registry)
    assert list(pipeline.steps) == ["train", "second", "compare"]
    assert pipeline.steps["train"].config.backbone.config.width == 32
    assert pipeline.references("second") == ["photos", "train"]
    assert pipeline.references("compare") == ["train", "second"]


def test_the_resolved_configuration_is_flat_and_loads_again_as_itself(registry):
    first = load(GOOD, registry).config
    flat = first.model_dump(mode="json")
    assert flat["steps"][0]["backbone"] == {"use": "net", "width": 32, "inner": None}
    assert type(first).model_validate(flat, context={"registry": registry}) == first


def test_all_problems_come_at_once_in_the_order_of_the_file(registry):
    text = """\
run_dir: runs/x
speed: fast
data:
  photos: {use: faces, pth: here}
steps:
  - use: train
    data: photos
    epochs: many
    optimiser: {learning_rate: -1}
    backbone: {use: net, width: 4, inner: {use: net, widht: 9}}
  - use: trian
"""
    assert problems(text, registry) == [
        ("p.yaml:2:1", "speed", "unknown option `speed`", "did you mean `seed`?"),
        ("p.yaml:4:11", "data.photos", "`path` is required", None),
        ("p.yaml:4:24", "data.photos.pth", "unknown option `pth`", "did you mean `path`?"),
        ("p.yaml:8:13", "steps.train.epochs",
         "Input should be a valid integer, unable to parse string as an integer, not 'many'", None),
        ("p.yaml:9:32", "steps.train.optimiser.learning_rate", "Input should be greater than 0, not -1", None),
        ("p.yaml:10:33", "steps.train.backbone.width", "Input should be greater than or equal to 8, not 4", None),
        ("p.yaml:10:54", "steps.train.backbone.inner.widht", "unknown option `widht`", "did you mean `width`?"),
        ("p.yaml:11:5", "steps.trian", "no step is called `trian`", "did you mean `train`?"),
    ]  # fmt: skip


def test_a_union_is_one_problem(registry):
    text = GOOD.replace("path: here}", "path: here, splits: {train: {identities: many}}}")
    ((where, path, message, _),) = problems(text, registry)
    assert (where, path) == ("p.yaml:3:65", "data.photos.splits.train.identities")
    assert message.count("; or: ") == 2


def test_an_unknown_component(registry):
    text = GOOD.replace("use: net, width: 32", "use: nett")
    ((where, path, message, remedy),) = problems(text, registry)
    assert (where, path) == ("p.yaml:7:15", "steps.train.backbone")
    assert message == "no backbone is called `nett`"
    assert remedy.startswith("did you mean `net`?")


def test_an_output_nobody_made(registry):
    ((where, path, message, remedy),) = problems(GOOD.replace("start: train", "start: trainn"), registry)
    assert (where, path) == ("p.yaml:11:12", "steps.second.start")
    assert message == "nothing is called `trainn` (model)"
    assert remedy == "did you mean `train`?"


def test_an_output_of_the_wrong_kind(registry):
    ((_, _, message, remedy),) = problems(GOOD.replace("start: train", "start: photos"), registry)
    assert message == "`photos` is of kind dataset, this needs model"
    assert remedy == "of kind model there are: train, second"


def test_an_output_of_a_later_step(registry):
    text = GOOD.replace("backbone: {use: net, width: 32}", "backbone: net\n    start: second").replace(
        "    start: train\n", ""
    )
    ((where, _, message, remedy),) = problems(text, registry)
    assert where == "p.yaml:8:12"
    assert message == "`second` is made by a later step"
    assert remedy == "move step `second` above `train`"


def test_a_circle_is_named(registry):
    text = GOOD.replace("backbone: {use: net, width: 32}", "backbone: net\n    start: second")
    ((_, _, message, _),) = problems(text, registry)
    assert message == "steps refer to each other in a circle: `train` -> `second` -> `train`"


def test_a_step_that_names_itself(registry):
    ((_, _, message, _),) = problems(GOOD.replace("start: train", "start: second"), registry)
    assert message == "steps refer to each other in a circle: `second` -> `second`"


def test_a_name_used_twice(registry):
    ((where, _, message, remedy),) = problems(
        GOOD.replace("    name: second\n", "").replace("second", "train"), registry
    )
    assert where == "p.yaml:8:5"
    assert message == "`train` is already the name of a step"
    assert remedy == "give this step a `name:` of its own"


def test_set_reaches_steps_by_name_and_short_blocks(registry):
    pipeline = load(
        GOOD,
        registry,
        "steps.second.epochs=7",
        "steps.second.backbone.width=128",
        "data.photos.path=/elsewhere",
        "run_dir=memory://runs",
    )
    second = pipeline.steps["second"].config
    assert (second.epochs, second.backbone.config.width) == (7, 128)
    assert pipeline.config.data["photos"].config.path == "/elsewhere"
    assert pipeline.config.run_dir == "memory://runs"


def test_a_wrong_set_is_reported_as_such(registry):
    assert problems(GOOD, registry, "steps.train.epochs=none")[0][:2] == (
        "--set steps.train.epochs",
        "steps.train.epochs",
    )
    assert problems(GOOD, registry, "steps.trian.epochs=1")[0][2:] == ("no entry `trian` here", "did you mean `train`?")
    assert "written key.path=value" in problems(GOOD, registry, "epochs")[0][2]


def test_set_does_not_invent_a_data_set(registry):
    where = "--set data.fotos.path=x"
    assert problems(GOOD, registry, "data.fotos.path=x") == [
        (where, "data.fotos", "no data set `fotos`", "did you mean `photos`?")
    ]
    assert problems(GOOD, registry, "data.zzz={use: faces, path: x}")[0][2:] == (
        "no data set `zzz`",
        "there are: photos",
    )
    assert problems("run_dir: x\nsteps: [train]\n", registry, "data.photos.path=x")[0][2:] == (
        "no data set `photos`",
        None,
    )


def test_set_where_the_files_own_data_is_wrong_leaves_that_to_validation(registry):
    wrong = GOOD.replace("  photos: {", "  1: {")
    assert problems(wrong, registry, "data.photos.path=x")[0][2:] == ("no data set `photos`", "there are: 1")
    listed = GOOD.replace("  photos: {use: faces, path: here}", "  - faces")
    assert "a mapping is expected, {key: value}" in problems(listed, registry, "data.faces.path=x")[0][2]


def test_a_set_value_that_is_no_yaml_names_the_set(registry):
    assert [problem[:3] for problem in problems(GOOD, registry, "seed=!!int abc")] == [
        ("--set seed=!!int abc", "", "`abc` is no int")
    ]


def test_set_replaces_a_data_set_or_all_of_them(registry):
    replaced = load(GOOD, registry, "data.photos={use: faces, path: there}")
    assert replaced.config.data["photos"].config.path == "there"
    whole = load(GOOD, registry, "data={photos: {use: faces, path: other}}")
    assert whole.config.data["photos"].config.path == "other"


@pytest.mark.parametrize("text", ["plugins=[mine.py]", "plugins.0=mine.py"])
def test_set_of_plugins_is_refused_since_they_are_loaded_before(registry, text):
    assert problems(GOOD, registry, text) == [
        (f"--set {text}", "plugins", "plugins are loaded before --set is read", "load it with --inline-plugin FILE")
    ]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("run_dir: x\n\nb: bell\x07\n", "p.yaml:3:8", "the character U+0007 is not allowed in YAML"),
        ("a: 1\nb: !!int abc\n", "p.yaml:2:4", "`abc` is no int"),
        ("a: !!int ''\n", "p.yaml:1:4", "`` is no int"),
        ("a: !!bool maybe\n", "p.yaml:1:4", "`maybe` is no bool"),
        ("a: 1\nb: [2020-99-99]\n", "p.yaml:2:5", "`2020-99-99` is no timestamp"),
        ("a: 1\n[1, 2]: 3\n", "p.yaml:2:1", "a key is a single word or number"),
        ("a:\n  ? {b: 1}\n  : 2\n", "p.yaml:2:5", "a key is a single word or number"),
        ("a: " + "9" * 5000, "p.yaml:1:4", f"`{'9' * 40}` is no int"),
        ("a: " + "[" * 5000, "p.yaml", "nested too deeply"),
    ],
)
def test_yaml_that_cannot_be_read_says_where(registry, text, where, message):
    assert [problem[:3] for problem in problems(text, registry)] == [(where, "", message)]


@pytest.mark.parametrize(("key", "path"), [("1", "1"), ("1.5", "1.5"), ("null", "None")])
def test_a_key_that_is_no_text_is_reported_at_the_key(registry, key, path):
    ((where, at, message, remedy),) = problems(GOOD.replace("  photos: {", f"  {key}: {{"), registry)
    assert (where, at) == ("p.yaml:3:3", f"data.{path}")
    assert message == f"Input should be a valid string, not {path}"
    assert remedy == "write the key in quotes"


def test_an_option_whose_name_is_no_text(registry):
    assert problems(GOOD.replace("path: here", "path: here, 3: x"), registry) == [
        ("p.yaml:3:36", "data.photos.3", "Keys should be strings, not 3", "write the key in quotes")
    ]


def test_a_fault_that_came_by_a_merge_is_reported_at_the_mapping_that_merged_it(registry):
    text = GOOD.replace("photos: {use: faces, path: here}", "photos: &base {use: faces, path: 3}\n  more: {<<: *base}")
    assert [problem[:2] for problem in problems(text, registry)] == [
        ("p.yaml:3:36", "data.photos.path"),
        ("p.yaml:4:9", "data.more.path"),
    ]


PLUGIN = """\
from occframe import Config, hookimpl

@hookimpl
def occframe_register_datasets(register):
    register("beside", "nowhere:Nothing", config=Config, summary="stands beside the YAML file")
"""


def bench_with(path):
    result = CliRunner().invoke(bench_run, [str(path)])
    raise result.exception


def pipeline_with(path):
    load_with_plugins(path, [], False, [])


@pytest.mark.parametrize("read", [pipeline_with, bench_with])
def test_inline_plugins_are_found_beside_the_file_that_lists_them(tmp_path, read):
    name = f"beside_for_{read.__name__}.py"  # a module of that name is imported
    (tmp_path / name).write_text(PLUGIN)
    file = tmp_path / "it.yaml"
    file.write_text(f"plugins: [{name}]\nrun_dir: x\ndata:\n  a: beside\n  b: besides\n")
    with pytest.raises(ConfigError) as caught:
        read(file)
    (about_data,) = [problem for problem in caught.value.problems if problem.path.startswith("data")]
    assert about_data.message == "no dataset is called `besides`"
    assert about_data.remedy.startswith("did you mean `beside`?")


@pytest.mark.parametrize("read", [pipeline_with, bench_with])
def test_every_missing_inline_plugin_is_reported_at_its_line(tmp_path, read):
    file = tmp_path / "it.yaml"
    file.write_text("run_dir: x\nplugins:\n  - gone.py\n  - lost.py\n")
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        (f"{file}:3:5", f"no inline plugin at {tmp_path / 'gone.py'}"),
        (f"{file}:4:5", f"no inline plugin at {tmp_path / 'lost.py'}"),
    ]


@pytest.mark.parametrize("read", [pipeline_with, bench_with])
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("null", "a list is expected, [first, second], not None"),
        ("mine.py", "a list is expected, [first, second], not 'mine.py'"),
        ("[3]", "Input should be a valid string, not 3"),
    ],
)
def test_a_plugins_entry_of_the_wrong_type(tmp_path, read, written, message):
    file = tmp_path / "it.yaml"
    file.write_text(f"run_dir: x\nplugins: {written}\n")
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert message in [problem.message for problem in caught.value.problems if problem.path.startswith("plugins")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", 'found duplicate key "a"'),
        ("a: [1, 2\n", "expected ',' or ']'"),
        ("- just\n- a list\n", "a pipeline is a mapping"),
        ("", "a pipeline is a mapping"),
        ("run_dir: x\nsteps: []\n", "List should have at least 1 item"),
        ("run_dir: x\nsteps: [3]\n", "a step is written `use: NAME` with its options beside it"),
        ("run_dir: x\nsteps: train\n", "a list is expected, [first, second]"),
    ],
)
def test_files_that_are_no_pipeline(registry, text, message):
    assert message in problems(text, registry)[0][2]


def test_python_tags_are_inert(registry):
    text = GOOD.replace("path: here", "path: !!python/object/apply:os.system ['true']")
    assert "Input should be a valid string" in problems(text, registry)[0][2]


def test_an_alias_bomb_is_refused_quickly(registry):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "unreasonable size" in problems("\n".join(lines), registry)[0][2]


def test_the_schema_accepts_what_validation_accepts_and_refuses_unknown_keys(registry):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(pipeline_schema(registry))
    assert list(validator.iter_errors(parse_yaml(GOOD, "p").value)) == []
    wrong = parse_yaml(GOOD.replace("width: 32", "widht: 32"), "p").value
    assert list(validator.iter_errors(wrong))
