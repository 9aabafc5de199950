"""``occframe gallery index``: building an index, bringing it up to date, measuring it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from occframe.cli.common import device_option, json_option, seed_option
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.component import BuildContext, MatcherBlock
    from occframe.gallery import Gallery
    from occframe.gallery.indexing import IndexRecord, Measured


@click.command()
@click.argument("gallery")
@click.option("--matcher", help="The component, e.g. faiss or torch; what `plan` chooses if absent.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of it: profile=ivf-fp16.")
@click.option("--name", help="Of the index, if there are to be several [the matcher and its profile].")
@click.option("--rebuild", is_flag=True, help="Build anew even where extending would do.")
@click.option(
    "--threshold",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of rows added and deleted since, up to which the index is left as it is.",
)
@click.option("--drop", is_flag=True, help="Remove the index.")
@click.option("--measure", "measured", is_flag=True, help="Recall against exact search, and latency.")
@click.option("--probes", help="Measure with these, held out: a gallery or .npy file [made from rows of the gallery].")
@click.option("--queries", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Hits a query, to measure.")
@device_option
@seed_option
@json_option
def index(
    gallery: str,
    matcher: str | None,
    settings: tuple[str, ...],
    name: str | None,
    rebuild: bool,
    threshold: float,
    drop: bool,
    measured: bool,
    probes: str | None,
    queries: int,
    k: int,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Build the index of GALLERY, or bring it up to date.

    An index is never out of date for a search: what it lacks is searched beside it. This makes that less.
    """
    from occframe.gallery import Gallery
    from occframe.gallery.indexing import drop_index, read_record, verdict
    from occframe.standalone import standalone_context

    opened, context = Gallery.open(gallery), standalone_context(device=device, seed=seed)
    block = _block(opened, matcher, settings, name, context)
    name = name or _name_of(opened, block, matcher is None)
    there = _record(opened, name)
    if drop:
        read_record(gallery, name)
        drop_index(gallery, name)
        click.echo(json.dumps({"index": name, "done": "removed"}) if as_json else f"{name}: removed")
        return
    if there is None or rebuild or _differs(there, block, matcher is not None or bool(settings)):
        done = "build"
    else:
        done = verdict(opened, there, threshold)
        done = "build" if done == "rebuild" else done
    record = _bring(opened, name, done, there, block, context)
    if measured:
        record = _measured(opened, name, record, context, probes, queries, k)
    _report_index(opened, name, done, record, as_json)


def _block(
    gallery: Gallery, matcher: str | None, settings: tuple[str, ...], name: str | None, context: BuildContext
) -> MatcherBlock:
    """What the command line says; else what the index that is there has; else what the planner chooses."""
    from occframe.component import MatcherBlock
    from occframe.gallery.indexing import index_names
    from occframe.gallery.planning import plan as make_plan
    from occframe.machine import available_memory
    from occframe.standalone import options_from, parse_block

    options = options_from(settings)
    if matcher is None and not options:
        names = [name] if name else index_names(gallery.url)
        if len(names) > 1:
            raise OccframeError(
                f"the gallery {gallery.url} has several indexes: {', '.join(names)}", remedy="name one with --name"
            )
        if names and (record := _record(gallery, names[0])) is not None:
            return parse_block(MatcherBlock, record.details.matcher, context)
    if matcher is None and "profile" not in options:
        memory = available_memory()
        made = make_plan(context.registry, max(1, gallery.count), gallery.dim, memory=memory, recall=0.99)
        if made.chosen is None:
            raise OccframeError(
                "no index of this gallery fits into memory", remedy=f"`occframe gallery plan {gallery.url}` says why"
            )
        click.echo(f"{made.chosen.use} {made.chosen.offer.options}: {made.chosen.offer.why}", err=True)
        return parse_block(MatcherBlock, made.chosen.block | options, context)
    return parse_block(MatcherBlock, {"use": matcher or "faiss", **options}, context)


def _name_of(gallery: Gallery, block: MatcherBlock, may_be_there: bool) -> str:
    from occframe.gallery.indexing import index_name, index_names

    names = index_names(gallery.url)
    return names[0] if may_be_there and len(names) == 1 and index_name(block) not in names else index_name(block)


def _record(gallery: Gallery, name: str) -> IndexRecord | None:
    """None where there is none, or one that has to be built anew."""
    from occframe.gallery.indexing import index_names, read_record

    if name not in index_names(gallery.url):
        return None
    try:
        return read_record(gallery.url, name)
    except OccframeError as error:
        click.echo(f"{error.message}: built anew", err=True)
        return None


def _differs(record: IndexRecord, block: MatcherBlock, asked: bool) -> bool:
    return asked and record.details.matcher != block.model_dump(mode="json")


def _bring(
    gallery: Gallery, name: str, done: str, there: IndexRecord | None, block: MatcherBlock, context: BuildContext
) -> IndexRecord:
    from rich.console import Console

    from occframe.gallery.indexing import build_index, extend_index
    from occframe.progress import show_progress

    console = Console(stderr=True)
    if done == "extend":
        try:
            with show_progress("extending", None, "embeddings", console=console) as bar:
                return extend_index(gallery, name, context, advance=bar.advance)
        except OccframeError as error:  # of another version of its library, or damaged: all of it is in the gallery
            click.echo(f"{error.message}: built anew", err=True)
            done = "build"
    if done == "build" or there is None:
        with show_progress("indexing", gallery.count, "embeddings", console=console) as bar:
            return build_index(gallery, block, context, name=name, advance=bar.advance)
    return there


def _measured(
    gallery: Gallery, name: str, record: IndexRecord, context: BuildContext, probes: str | None, count: int, k: int
) -> IndexRecord:
    from rich.console import Console

    from occframe.gallery.indexing import write_record
    from occframe.gallery.measuring import held_out_queries, measure
    from occframe.gallery.queries import read_vectors
    from occframe.gallery.searching import open_searcher
    from occframe.progress import show_progress

    if not gallery.count:
        raise OccframeError(f"the gallery {gallery.url} is empty", remedy="add faces before measuring")
    searcher = open_searcher(gallery.url, context, index=name)
    if probes is None:
        asked = held_out_queries(searcher, count, context.seed)
    else:
        asked = read_vectors(probes, gallery).vectors[:count]
    with show_progress("measuring", len(asked), "queries", console=Console(stderr=True)) as bar:
        found = measure(searcher, asked, k, bar.advance)
    record = record.model_copy(update={"details": record.details.model_copy(update={"measured": found})})
    write_record(gallery.url, name, record)
    return record


def _report_index(gallery: Gallery, name: str, done: str, record: IndexRecord, as_json: bool) -> None:
    from occframe.gallery.indexing import lag

    behind = lag(gallery, record)
    added, deleted = (behind.added, behind.deleted) if behind else (0, 0)
    measured: Measured | None = record.details.measured
    if as_json:
        told = {
            "index": name,
            "done": {"build": "built", "extend": "extended", "keep": "kept"}[done],
            "matcher": record.details.matcher,
            "rows": record.details.snapshot.count,
            "beside": added,
            "deleted": deleted,
            "measured": measured.model_dump(mode="json") if measured else None,
        }
        click.echo(json.dumps(told, indent=2))
        return
    verb = {"build": "built of", "extend": "extended to", "keep": "left as it is, with"}[done]
    beside = f"; {added:,} added and {deleted:,} deleted since, which searches see" if added or deleted else ""
    click.echo(f"{name}: {verb} {record.details.snapshot.count:,} embeddings{beside}")
    if measured:
        click.echo(
            f"  recall@{measured.k} {measured.recall:.4f} on {measured.queries:,} held-out queries; one query "
            f"{measured.p50_ms:.2f} ms p50, {measured.p99_ms:.2f} ms p99; {measured.queries_per_s:,.0f}/s in batches"
        )
