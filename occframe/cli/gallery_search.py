"""``occframe gallery search``: who is it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from occframe.cli.common import device_option, json_option, table_console

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe.gallery import Gallery
    from occframe.gallery.hits_page import QueryResult
    from occframe.gallery.queries import Queries
    from occframe.gallery.searching import GallerySearcher
    from occframe.gallery.threshold import Threshold
    from occframe.types import Hits

#: A gallery up to this size is searched without an index: reading it takes a second or two.
_WITHOUT_INDEX = 500_000


@click.command()
@click.argument("gallery")
@click.argument("queries", nargs=-1, required=True)
@click.option("--model", metavar="RUN/STEP", help="Embeds the pictures: the one that embedded the gallery.")
@click.option("-k", default=5, show_default=True, type=click.IntRange(1, 10_000), help="Hits a query.")
@click.option("--index", "index_name", help="Which, where there are several.")
@click.option("--subject", "subjects", multiple=True, help="Find only these; may be repeated.")
@click.option("--not-subject", "not_subjects", multiple=True, help="Find none of these; may be repeated.")
@click.option("--where", multiple=True, metavar="CONDITION", help="On a column: camera=door, 'year>=2020'; all hold.")
@click.option("--threshold", type=click.FloatRange(-1, 1), help="Below it: unknown [the calibrated one].")
@click.option("--use", help="The data set component that reads QUERIES; by file names if absent.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of it: aligned=true.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write queries and hits as pictures here."
)
@click.option("--faces", help="The data set with the pictures of the gallery, for --html.")
@device_option
@json_option
def search(
    gallery: str,
    queries: tuple[str, ...],
    model: str | None,
    k: int,
    index_name: str | None,
    subjects: tuple[str, ...],
    not_subjects: tuple[str, ...],
    where: tuple[str, ...],
    threshold: float | None,
    use: str | None,
    settings: tuple[str, ...],
    html: Path | None,
    faces: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Who is it? The nearest faces in GALLERY to each of QUERIES.

    QUERIES are aligned pictures (files, or one folder or data set) with --model; or a .npy file of vectors; or another
    gallery. With a threshold the answer may be "unknown": `occframe gallery calibrate` finds one.
    """
    from rich.console import Console

    from occframe.gallery import Gallery
    from occframe.gallery.filters import Filter
    from occframe.gallery.queries import read_queries
    from occframe.gallery.threshold import load_threshold
    from occframe.machine import default_threads
    from occframe.progress import show_progress
    from occframe.standalone import options_from, standalone_context

    opened, context = Gallery.open(gallery), standalone_context(device=device)
    only = Filter.of(opened.schema, subjects=subjects, not_subjects=not_subjects, where=where)
    kept = load_threshold(gallery)
    if threshold is None and kept is not None:
        threshold = kept.threshold
        if doubts := kept.doubts(opened):
            click.echo(f"{doubts}: `occframe gallery calibrate {gallery}` again", err=True)
    with show_progress("reading", None, "faces", console=Console(stderr=True)) as bar:
        asked = read_queries(
            queries,
            opened,
            context,
            model=model,
            use=use,
            options=options_from(settings),
            threads=default_threads(),
            advance=bar.advance,
        )
    for name in asked.unreadable[:10]:
        click.echo(f"{name}: no picture that can be read", err=True)
    if not asked.aligned:
        click.echo("the pictures are not aligned, only cut to size, which costs accuracy", err=True)
    searcher = open_any(opened, index_name, context)
    with show_progress("searching", len(asked.names), "queries", console=Console(stderr=True)) as bar:
        hits = _search_all(searcher, asked, k, only, bar.advance)
    results = _results(searcher.gallery, asked, hits, threshold)
    if html:
        _write_page(html, searcher, asked, results, faces, threshold, kept, context)
    if as_json:
        click.echo(json.dumps([_as_plain(result) for result in results], indent=2, ensure_ascii=False))
    else:
        _print_results(results, threshold)
    if html and not as_json:
        click.echo(f"written to {html}")


def open_any(gallery: Gallery, name: str | None, context: BuildContext) -> GallerySearcher:
    """A searcher with an index; without one where the gallery is small and has none."""
    from rich.console import Console

    from occframe.component import MatcherBlock
    from occframe.gallery.indexing import index_names
    from occframe.gallery.searching import open_searcher, search_in_memory
    from occframe.progress import show_progress
    from occframe.standalone import parse_block

    if name is not None or index_names(gallery.url) or gallery.count > _WITHOUT_INDEX:
        return open_searcher(gallery.url, context, index=name)
    block = parse_block(MatcherBlock, {"use": "torch", "dtype": "float16"}, context)
    with show_progress("reading the gallery", gallery.count, "embeddings", console=Console(stderr=True)) as bar:
        return search_in_memory(gallery.url, block, context, bar.advance)


def _search_all(searcher: GallerySearcher, asked: Queries, k: int, only: Any, advance: Any) -> Hits:
    import numpy as np

    from occframe.types import Hits

    found = []
    for start in range(0, len(asked.names), 256):
        found.append(searcher.search(asked.vectors[start : start + 256], k, only))
        advance(len(found[-1].ids))
    if not found:
        return Hits(np.empty((0, k), np.float32), np.empty((0, k), object))
    return Hits(np.concatenate([hits.scores for hits in found]), np.concatenate([hits.ids for hits in found]))


def _results(gallery: Gallery, asked: Queries, hits: Hits, threshold: float | None) -> list[QueryResult]:
    from occframe.gallery.hits_page import FoundFace, QueryResult
    from occframe.gallery.searching import subjects_of

    subjects = subjects_of(gallery, {name for name in hits.ids.ravel().tolist() if name})
    results = []
    for query, name in enumerate(asked.names):
        found = [
            FoundFace(item, subjects[item], score, threshold is None or score >= threshold, None)
            for item, score in zip(hits.ids[query].tolist(), hits.scores[query].tolist(), strict=True)
            if item
        ]
        best = next((hit.subject for hit in found if hit.known), "unknown")
        results.append(QueryResult(name, None, None if threshold is None else best, found))
    return results


def _as_plain(result: QueryResult) -> dict[str, Any]:
    hits = [{"id": hit.id, "subject": hit.subject, "score": hit.score} for hit in result.hits]
    verdict = {} if result.verdict is None else {"verdict": None if result.verdict == "unknown" else result.verdict}
    return {"query": result.name, **verdict, "hits": hits}


def _print_results(results: list[QueryResult], threshold: float | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("query", *([] if threshold is None else ["who"]), "rank", "subject", "id", "score"):
        table.add_column(heading, justify="right" if heading in ("rank", "score") else "left")
    for result in results:
        who = [] if result.verdict is None else [escape(result.verdict)]
        rows = [
            (str(rank), escape(hit.subject), escape(hit.id), f"{hit.score:.3f}", None if hit.known else "dim")
            for rank, hit in enumerate(result.hits, 1)
        ]
        for at, (*cells, style) in enumerate(rows or [("", "nothing found", "", "", None)]):
            first = [escape(result.name), *who] if at == 0 else ["", *("" for _ in who)]
            table.add_row(*first, *(cell or "" for cell in cells), style=style)
    table_console().print(table)
    if threshold is not None:
        click.echo(f"unknown: no score reaches {threshold:.3f}")


def _write_page(
    path: Path,
    searcher: GallerySearcher,
    asked: Queries,
    results: list[QueryResult],
    faces: str | None,
    threshold: float | None,
    kept: Threshold | None,
    context: BuildContext,
) -> None:
    from dataclasses import replace

    from occframe.data.sources import open_source
    from occframe.gallery.hits_page import hits_page, pictures
    from occframe.storage import write_bytes

    if asked.faces is not None:
        shown = pictures(asked.faces, asked.rows)
        results = [replace(result, picture=uri) for result, uri in zip(results, shown, strict=True)]
    if faces is not None:
        enrolled = open_source(faces, context)
        rows = {name: row for row, name in enumerate(enrolled.ids)}
        wanted = sorted({hit.id for result in results for hit in result.hits} & rows.keys())
        uris = dict(zip(wanted, pictures(enrolled, [rows[name] for name in wanted]), strict=True))
        results = [
            replace(result, hits=[replace(hit, picture=uris.get(hit.id)) for hit in result.hits]) for result in results
        ]
    facts = [("gallery", searcher.gallery.url), ("faces", f"{searcher.gallery.count:,}"), ("index", searcher.name)]
    if threshold is not None:
        calibrated = kept is not None and kept.threshold == threshold
        at = f", one stranger in {1 / kept.fpir:,.0f} reaches it" if calibrated and kept else ""
        facts.append(("threshold", f"{threshold:.3f}{at}"))
    title = f"{len(results):,} {'search' if len(results) == 1 else 'searches'}"
    write_bytes(str(path), hits_page(title, facts, results).encode())
