from __future__ import annotations

import json
from dataclasses import asdict

import click

from occframe.cli.common import json_option
from occframe.cli.data_source import source_options


@click.command(
    epilog="A second run goes on where a stopped one ended. Pictures keep their bytes; nothing is encoded anew."
)
@click.argument("source")
@click.argument("target")
@source_options
@click.option("--shuffle", type=click.IntRange(min=0), metavar="SEED", help="Mix the faces, in an order of this seed.")
@click.option("--rows-per-file", default=65536, show_default=True, type=click.IntRange(min=1), help="Faces a file.")
@click.option(
    "--most-dropped",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the pictures that may be unreadable before it stops.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="That check pictures; as many as cores if absent.")
@json_option
def convert(
    source: str,
    target: str,
    use: str | None,
    options: tuple[str, ...],
    shuffle: int | None,
    rows_per_file: int,
    most_dropped: float,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write the data set at SOURCE into folder TARGET as Parquet, in row groups small enough to shuffle among.

    SOURCE and TARGET are paths or fsspec URLs. Pictures that do not decode are left out and listed in
    TARGET/_dropped.jsonl.
    """
    from rich.console import Console

    from occframe.data.conversion import convert as write
    from occframe.data.sources import open_source
    from occframe.machine import default_threads
    from occframe.progress import show_progress
    from occframe.standalone import options_from, standalone_context

    faces = open_source(source, standalone_context(), use=use, **options_from(options))
    with show_progress("converting", len(faces.ids), "images", console=Console(stderr=True)) as bar:
        result = write(
            faces,
            target,
            rows_per_file=rows_per_file,
            shuffle=shuffle,
            threads=threads or default_threads(),
            most_dropped=most_dropped,
            advance=bar.advance,
        )
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
        return
    before = f" ({result.files_before} of them were there)" if result.files_before else ""
    click.echo(f"{target}: {result.rows:,} faces of {result.identities:,} people in {result.files} files{before}")
    for reason, count in result.dropped.items():
        click.echo(f"  left out: {count:,} {reason}")
    for note in getattr(faces, "notes", ()):
        click.echo(f"  {note}")
    click.echo(f"In a pipeline: data: {{faces: {{use: parquet, url: {target}}}}}")
