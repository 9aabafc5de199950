"""``occframe gallery calibrate``: from which score on a hit is somebody."""

from __future__ import annotations

import click

from occframe.cli.common import device_option, json_option, seed_option
from occframe.cli.gallery_search import open_any


@click.command()
@click.argument("gallery")
@click.option(
    "--fpir",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of searches for strangers that may name somebody.",
)
@click.option("--strangers", metavar="GALLERY", help="Embeddings of people who are not enrolled [leave one out].")
@click.option(
    "--searches",
    default=2000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Rows to leave out their own person for, where no strangers are given.",
)
@click.option("--index", "index_name", help="Which, where there are several.")
@device_option
@seed_option
@json_option
def calibrate(
    gallery: str,
    fpir: float,
    strangers: str | None,
    searches: int,
    index_name: str | None,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """From which score on a hit in GALLERY is somebody, so that at most --fpir of strangers are taken for one.

    The threshold is kept with the gallery, and `search` uses it.
    """
    from rich.console import Console

    from occframe.gallery import Gallery
    from occframe.gallery.threshold import (
        Threshold,
        save_threshold,
        scores_of_strangers,
        scores_without_own,
        threshold_at,
    )
    from occframe.progress import show_progress
    from occframe.standalone import standalone_context

    opened, console = Gallery.open(gallery), Console(stderr=True)
    if strangers is not None:
        others = Gallery.open(strangers)
        searcher = open_any(opened, index_name, standalone_context(device=device))
        with show_progress("searching", others.count, "strangers", console=console) as bar:
            scores = scores_of_strangers(searcher, others, bar.advance)
    else:
        with show_progress("comparing", opened.count, "embeddings", console=console) as bar:
            scores = scores_without_own(opened, searches, seed, bar.advance)
    found = Threshold(
        threshold=threshold_at(scores, fpir),
        fpir=fpir,
        searches=len(scores),
        enrolled=opened.count,
        model_fingerprint=opened.fingerprint,
        strangers=strangers or "everybody, without their own rows",
    )
    save_threshold(gallery, found)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    click.echo(
        f"threshold {found.threshold:.4f}: at most {fpir:.2%} of {found.searches:,} searches for strangers reach it"
    )
