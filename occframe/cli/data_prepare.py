from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click


@click.command(epilog="Nothing is downloaded. `occframe data prepare` alone lists the test sets there are.")
@click.argument("name", required=False)
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--out", "target", help="Folder or URL to write to; data/NAME if absent.")
@click.option("--accept-licence", "accepted", is_flag=True, help="You have read the licence and keep to it.")
@click.option("--any-version", is_flag=True, help="Take files whose checksum is not the known one, and note theirs.")
@click.option(
    "--detector",
    default="mtcnn",
    show_default=True,
    help="The component that finds faces in sets without landmarks, by its name.",
)
def prepare(
    name: str | None, source: Path | None, target: str | None, accepted: bool, any_version: bool, detector: str
) -> None:
    """Turn the official archives of test set NAME, fetched into folder SOURCE, into aligned faces and pairs."""
    from occframe_registry import protocols

    if name is None:
        for entry in protocols().values():
            click.echo(
                f"{entry.name:10} {entry.summary}\n{'':10} files: {', '.join(file.name for file in entry.files)}"
            )
        return
    from occframe.preparation.sources import find_entry, find_files

    entry = find_entry(name)
    if source is None:
        raise click.UsageError(f"name the folder with the files; to get them: {entry.obtain} ({entry.origin})")
    find_files(entry, source)  # before anybody is asked about a licence
    click.echo(f"{entry.summary}\nOrigin:  {entry.origin}\nLicence: {entry.licence}\nTerms:   {entry.terms}", err=True)
    if not accepted:
        if not sys.stdin.isatty():
            raise click.UsageError(
                "add --accept-licence once you have read the licence and terms above and keep to them"
            )
        click.confirm("Do you keep to this?", abort=True, err=True)

    from rich.console import Console

    from occframe.component import AlignerBlock, DetectorBlock
    from occframe.preparation.prepare import prepare as make
    from occframe.progress import show_progress
    from occframe.standalone import parse_block, standalone_context

    context = standalone_context()
    made = make(
        entry,
        source,
        target or f"data/{entry.name}",
        aligner=context.build(parse_block(AlignerBlock, {"use": "arcface"}, context)),
        detector=lambda: context.build(parse_block(DetectorBlock, {"use": detector}, context)),
        any_version=any_version,
        progress=partial(show_progress, console=Console(stderr=True)),
    )
    click.echo(f"{made.faces}: {made.count:,} faces of {made.people:,} people")
    for reason, count in made.lost.items():
        click.echo(f"  left out: {count:,} {reason}, listed in lost.jsonl beside it")
    for difference in made.unlike:
        click.echo(f"  not the whole set, or another one: {difference}")
    for file in made.unverified:
        click.echo(f"  no checksum vouches for {file}: its own is in protocol.json")
    click.echo(f"In a pipeline: data: {{{entry.name}: {{use: parquet, url: {made.faces}}}}}")
    if made.pairs:
        click.echo(f"               protocols: [{{use: verification, pairs: {made.pairs}}}]")
