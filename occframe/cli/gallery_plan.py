"""``occframe gallery plan``: which index for how many faces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from occframe.cli.common import json_option, table_console
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.gallery.planning import Choice


@click.command()
@click.option("-n", "count", type=str, help="How many embeddings, e.g. 10_000_000; or name a gallery.")
@click.option("-d", "dim", type=click.IntRange(1, 65_536), help="Length of an embedding.")
@click.argument("gallery", required=False)
@click.option("--memory", metavar="SIZE", help="What the host has for it, e.g. 24GiB [what is available].")
@click.option("--recall", default=0.99, show_default=True, type=click.FloatRange(0, 1), help="At least; 1 is exact.")
@click.option("--gpu", metavar="SIZE", help="Memory of a GPU to use, e.g. 80GiB.")
@click.option("--cores", type=click.IntRange(1, 1024), help="As many as there are, if absent.")
@json_option
def plan(
    count: str | None,
    dim: int | None,
    gallery: str | None,
    memory: str | None,
    recall: float,
    gpu: str | None,
    cores: int | None,
    as_json: bool,
) -> None:
    """Which index for so many faces: profile, memory, build time, expected recall and latency, and why.

    Give -n and -d, or GALLERY.
    """
    from occframe.gallery import Gallery
    from occframe.gallery.planning import as_json as described
    from occframe.gallery.planning import parse_bytes
    from occframe.gallery.planning import plan as make_plan
    from occframe.machine import available_memory
    from occframe.plugins import PluginRegistry

    if gallery is not None:
        opened = Gallery.open(gallery)
        rows, dim = opened.count, opened.dim
    elif count is None or dim is None:
        raise OccframeError("how many faces is missing", remedy="give -n COUNT and -d LENGTH, or a gallery")
    else:
        rows = _count(count)
    made = make_plan(
        PluginRegistry.discover(),
        rows,
        dim,
        memory=parse_bytes(memory) if memory else available_memory(),
        recall=recall,
        gpu=parse_bytes(gpu) if gpu else None,
        cores=cores,
    )
    if as_json:
        chosen = described(made.chosen) if made.chosen else None
        click.echo(json.dumps({"chosen": chosen, "others": [described(item) for item in made.others]}, indent=2))
    else:
        _print_plan(rows, dim, made.chosen, list(made.others))
    if made.chosen is None:
        raise SystemExit(1)


def _count(text: str) -> int:
    try:
        rows = int(text.replace(",", ""))  # int() takes underscores itself
    except ValueError:
        raise OccframeError(f"`{text}` is no number of embeddings", remedy="write 10_000_000") from None
    if rows < 1:
        raise OccframeError("a plan is for one embedding at least", remedy="write 10_000_000")
    return rows


def _print_plan(rows: int, dim: int, chosen: Choice | None, others: list[Choice]) -> None:
    from rich.table import Table

    from occframe.gallery.planning import as_bytes

    table = Table(title=f"{rows:,} embeddings of {dim}", title_justify="left", box=None, pad_edge=False)
    on_gpu = any(item.offer.gpu_memory for item in others) or bool(chosen and chosen.offer.gpu_memory)
    for heading in ("matcher", "memory", *(["on GPU"] if on_gpu else []), "build", "recall", "query", "batch", ""):
        table.add_column(heading, justify="left" if heading in ("matcher", "") else "right", no_wrap=True)
    shown = set()
    for item in [*([chosen] if chosen else []), *others]:
        offer, kind = item.offer, (item.use, item.offer.options.get("profile"), item.offer.gpu_memory > 0)
        if kind in shown:  # the same with other parameters
            continue
        shown.add(kind)
        table.add_row(
            " ".join([item.use, *map(str, [offer.options["profile"]] if "profile" in offer.options else [])]),
            as_bytes(offer.memory),
            *([as_bytes(offer.gpu_memory) if offer.gpu_memory else ""] if on_gpu else []),
            _duration(offer.build_seconds),
            f"{offer.recall:.3f}",
            f"{_digits(offer.latency_ms)} ms",
            f"{offer.queries_per_s:,.0f}/s",
            "chosen" if item is chosen else item.against or "",
            style="bold" if item is chosen else None,
        )
    table_console().print(table)
    if chosen is None:
        click.echo("nothing fits: give it more memory, or ask for less recall")
        return
    click.echo(f"\n{chosen.offer.why}")
    settings = " ".join(f"--set {key}={value}" for key, value in chosen.offer.options.items())
    click.echo(f"  occframe gallery index GALLERY --matcher {chosen.use} {settings}")
    click.echo("Expected figures are of face embeddings on cores like ours; `index --measure` tells yours.")


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
