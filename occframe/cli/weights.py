"""``occframe weights``: what is known of weights that others trained, and getting them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from occframe.cli.common import json_option
from occframe.errors import OccframeError
from occframe_registry import WeightsEntry
from occframe_registry import weights as entries


@click.group()
def weights() -> None:
    """List, fetch and verify weights that the registry knows.

    They lie in $OCCFRAME_CACHE/weights, by default ~/.cache/occframe/weights; a pipeline names them registry:NAME.
    """


@weights.command("list")
@json_option
def list_(as_json: bool) -> None:
    """What the registry knows, on which terms, and what is on this machine."""
    known = entries()
    if as_json:
        click.echo(json.dumps([asdict(entry) | {"here": _path(entry).is_file()} for entry in known.values()], indent=2))
        return
    width = max(map(len, known))
    for name, entry in known.items():
        here = click.style("here  ", fg="green") if _path(entry).is_file() else "absent"
        click.echo(f"{name:{width}}  {here}  {entry.bytes / 1e6:6.1f} MB  {entry.licence}: {entry.summary}")


@weights.command(epilog="With OCCFRAME_OFFLINE=1 only files on this machine are taken.")
@click.argument("name")
@click.option("--from", "source", metavar="URL", help="Where the file is: http(s), a path, or any fsspec URL.")
@click.option(
    "--accept-licence", "accepted", is_flag=True, help="You accept licence and terms; needed without a terminal."
)
def fetch(name: str, source: str | None, accepted: bool) -> None:
    """Fetch the weights NAME into the cache. Goes on where it stopped; the SHA-256 is checked before anything loads."""
    from rich.console import Console

    from occframe.fetching import fetch_file, sha256_of
    from occframe.progress import show_progress

    entry = _find(name)
    target = _path(entry)
    if target.is_file() and sha256_of(target) == entry.sha256:
        click.echo(f"{target} is there already")
        return
    url = source or entry.url
    if not url:
        raise OccframeError(
            f"no address of the file itself is known for `{name}`, only its origin: {entry.origin}",
            remedy=f"name a copy of its {entry.bytes:,} bytes with --from URL; its sha256 must be {entry.sha256}",
        )
    click.echo(f"licence: {entry.licence}\nterms: {entry.terms}\ntraining data: {entry.training_data}", err=True)
    if not accepted:
        if not sys.stdin.isatty():
            raise OccframeError(f"the licence of `{name}` is not accepted", remedy="add --accept-licence if you do")
        click.confirm("Do you accept this?", abort=True, err=True)
    with show_progress(f"fetching {entry.file}", entry.bytes, "bytes", console=Console(stderr=True)) as bar:
        fetch_file(url, target, size=entry.bytes, sha256=entry.sha256, advance=bar.advance)
    click.echo(str(target))


@weights.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check the SHA-256 of NAMES, or of all weights that are on this machine."""
    from occframe.fetching import sha256_of

    chosen = [_find(name) for name in names] or [entry for entry in entries().values() if _path(entry).is_file()]
    wrong = []
    for entry in chosen:
        state = "absent" if not _path(entry).is_file() else "ok" if sha256_of(_path(entry)) == entry.sha256 else "WRONG"
        click.echo(f"{state:6}  {entry.name}  {_path(entry)}")
        wrong += [] if state == "ok" else [entry.name]
    if wrong:
        raise OccframeError(
            f"not what the registry describes: {', '.join(wrong)}",
            remedy="delete what is wrong and fetch it again: occframe weights fetch NAME",
        )


def _find(name: str) -> WeightsEntry:
    if name not in entries():
        raise OccframeError(
            f"the registry knows no weights `{name}`", remedy=f"there are: {', '.join(sorted(entries()))}"
        )
    return entries()[name]


def _path(entry: WeightsEntry) -> Path:
    from occframe.weights import cache_dir

    return cache_dir() / "weights" / entry.file
