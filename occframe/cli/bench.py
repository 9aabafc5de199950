"""``occframe bench``: systems × data × conditions × protocols."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from occframe.cli.common import discover, inline_option, json_option, read_with_plugins, strict_option, table_console
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.bench.comparing import Compared
    from occframe.bench.suite import SuiteConfig
    from occframe.plugins import PluginRegistry


system_option = click.option(
    "--system",
    "systems",
    multiple=True,
    metavar="NAME=PATH",
    help="One more system: the model that a run made, as RUN_DIR/STEP, or RUN_DIR where only one step made one. May "
    "be given several times.",
)


@click.group()
def bench() -> None:
    """Compare systems on data sets and protocols."""


@bench.command()
@click.argument("suite", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Result file, beside the run_dir's.",
)
@click.option(
    "-j",
    "--processes",
    type=click.IntRange(1, 256),
    help="Cells computed at once, each in a process of its own; if absent one a GPU, or one for four cores.",
)
@system_option
@inline_option
@strict_option
@json_option
def run(
    suite: Path,
    out: Path | None,
    processes: int | None,
    systems: tuple[str, ...],
    inline: tuple[Path, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Run SUITE (a YAML file): systems × data × conditions × protocols. Cells that are done are not computed again."""
    from rich.console import Console

    from occframe.bench.inputs import inputs_of
    from occframe.bench.results import collect
    from occframe.bench.suite import expand, load_suite
    from occframe.bench.tables import as_table
    from occframe.parallel import default_processes
    from occframe.pipeline import Runner
    from occframe.storage import exists, join, read_json, write_json

    file, registry = read_with_plugins(suite, inline, strict)
    config = load_suite(file, registry, systems)
    runner = Runner(expand(config, suite.name, registry), registry, Console(stderr=True))
    done = runner.run(processes=processes or default_processes(config.device))
    kept = join(config.run_dir, "result.json")
    earlier = read_json(kept) if exists(kept) else None
    result = collect(config, done.steps, runner.run_dir.info, inputs_of(config, runner.dataset, earlier))
    for target in dict.fromkeys((kept, str(out or kept))):
        write_json(target, result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        table_console().print(as_table(result))
        click.echo(f"written to {target}")


result_argument = click.argument("result", type=click.Path(exists=True, path_type=Path))


@bench.command(epilog="RESULT is a result file, or a suite's run_dir.")
@result_argument
@click.option("--figure", "figures", multiple=True, help="Which figures, e.g. tar@far=1e-3; the first three if absent.")
@click.option("--suite", type=click.Path(path_type=Path), help="Mark what this suite would compute otherwise now.")
@system_option
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it here; to stdout if absent."
)
def table(
    result: Path, figures: tuple[str, ...], suite: Path | None, systems: tuple[str, ...], out: Path | None
) -> None:
    """RESULT as Markdown, with confidence intervals."""
    from occframe.bench.results import read_result
    from occframe.bench.tables import as_markdown

    found = read_result(result)
    stale = _stale(found, suite, systems) if suite else None
    text = as_markdown(found, figures=figures, stale=stale)
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)


@bench.command(epilog="A block: <!-- bench: RESULT.json [FIGURE …] -->, then <!-- /bench -->, each a line of its own.")
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; fail where the page differs from its results.")
def fill(page: Path, check: bool) -> None:
    """Write the tables of a Markdown PAGE from the results its blocks name."""
    from occframe.bench.tables import render_blocks

    text = render_blocks(page)
    if text == page.read_text(encoding="utf-8"):
        click.echo(f"{page} is up to date")
    elif check:
        raise OccframeError(f"the tables of {page} are stale", remedy=f"run: occframe bench fill {page}")
    else:
        page.write_text(text, encoding="utf-8")
        click.echo(f"{page} is written anew")


@bench.command()
@click.argument("suite", type=click.Path(path_type=Path))
@result_argument
@system_option
@json_option
def check(suite: Path, result: Path, systems: tuple[str, ...], as_json: bool) -> None:
    """Which rows of RESULT would come out of SUITE otherwise now, and why: data, weights or settings that changed."""
    from occframe.bench.results import read_result

    found = read_result(result)
    stale = _stale(found, suite, systems)
    if as_json:
        rows = [{"row": number, "changed": list(why)} for number, why in stale.items()]
        click.echo(json.dumps({"rows": len(found["rows"]), "stale": rows}, indent=2))
    for number, why in () if as_json else stale.items():
        row = found["rows"][number]
        click.echo(f"{row['system']}, {row['trial']}, {row['condition']}: {', '.join(why)}")
    if stale:
        raise OccframeError(
            f"{len(stale)} of {len(found['rows'])} rows are stale", remedy=f"occframe bench run {suite}"
        )
    if not as_json:
        click.echo(f"all {len(found['rows'])} rows are of the suite as it is")


@bench.command(epilog="SYSTEM is named as in its suite. With one RESULT both systems are of it.")
@click.argument("first", metavar="RESULT:SYSTEM")
@click.argument("second", metavar="[RESULT:]SYSTEM")
@json_option
def compare(first: str, second: str, as_json: bool) -> None:
    """Is the second system better than the first? Paired over the same people and trials, with confidence intervals."""
    from occframe.bench.comparing import compare as compared
    from occframe.bench.results import read_result

    path, _, one = first.rpartition(":")
    if not path:
        raise click.BadParameter("written RESULT:SYSTEM, e.g. runs/lfw/result.json:trunk", param_hint="first")
    other_path, _, other = second.rpartition(":")
    result = read_result(Path(path))
    rival = read_result(Path(other_path)) if other_path else result
    found = list(compared(result, one, rival, other))
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found], indent=2))
        return
    for item in found:
        _print_comparison(item, one, other)


@bench.command()
@result_argument
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The page.")
@click.option("--title", default="", help="Heading of the page.")
@click.option(
    "--speed",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show these speeds as well: a result of benchmarks/perf (perf-*.json). May be given several times.",
)
@click.option(
    "--faces/--no-faces", default=True, show_default=True, help="With the faces that each system got most wrong."
)
@inline_option
def report(result: Path, out: Path, title: str, speed: tuple[Path, ...], faces: bool, inline: tuple[Path, ...]) -> None:
    """One HTML page of RESULT: systems side by side, curves, the worst mistakes with their faces. Needs the suite's
    run_dir at hand, for faces its data as well, and no network."""
    from occframe.bench.report import suite_report
    from occframe.bench.results import read_result

    page, notes = suite_report(read_result(result), title, speed, discover(inline, False) if faces else None)
    for note in notes:
        click.echo(note, err=True)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OccframeError(f"cannot write {out}: {error.strerror}", remedy="choose another file with -o") from error
    click.echo(f"report: {out}")


def _stale(result: dict[str, Any], path: Path, systems: Sequence[str]) -> dict[int, list[str]]:
    from occframe.bench.inputs import inputs_of
    from occframe.bench.results import stale_rows
    from occframe.bench.suite import load_suite

    file, registry = read_with_plugins(path, (), False)
    suite = load_suite(file, registry, systems)
    return stale_rows(result, suite, inputs_of(suite, _opener(suite, registry)))


def _opener(suite: SuiteConfig, registry: PluginRegistry) -> Any:
    from occframe.component import BuildContext

    return lambda name: BuildContext(registry).build(suite.data[name])


def _print_comparison(item: Compared, first: str, second: str) -> None:
    from occframe.evaluation.figures import is_share, title

    click.secho(f"{item.trial}, {item.condition}", bold=True)
    for found in item.found.differences:
        scale, unit = (100, " points") if is_share(found.metric) else (1, "")
        sure = "" if found.low <= 0 <= found.high else "  *"
        click.echo(
            f"  {title(found.metric):18} {scale * found.first:8.3f} {scale * found.second:8.3f}   "
            f"{scale * found.difference:+.3f} [{scale * found.low:+.3f}, {scale * found.high:+.3f}]{unit}, "
            f"p = {found.p:.3g}{sure}"
        )
    if (test := item.found.mcnemar) is not None:
        click.echo(
            f"  McNemar: of {test.trials:,} trials only {first} got {test.only_first:,} right, only {second} "
            f"{test.only_second:,}; p = {test.p:.3g}"
        )
    for note in item.found.notes:
        click.echo(f"  {note}")
