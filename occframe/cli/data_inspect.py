from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from occframe.cli.common import json_option
from occframe.cli.data_source import source_options
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.data.inspection import Inspection, LabelNoise
    from occframe.types import Dataset


@click.command()
@click.argument("source")
@source_options
@click.option("--model", help="A trained model (a folder with model.json): looks for wrong labels with it.")
@click.option(
    "--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Write faces of some people here, as PNG."
)
@click.option("--people", default=12, show_default=True, type=click.IntRange(1, 500), help="People on the sheet.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Other numbers, other people.")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@click.option("--threads", type=click.IntRange(1, 256), help="That decode; as many as cores if absent.")
@json_option
def inspect(
    source: str,
    use: str | None,
    options: tuple[str, ...],
    model: str | None,
    sheet: Path | None,
    people: int,
    seed: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Look through the data set at SOURCE: people, sizes, colour, duplicates, what cannot be read, wrong labels."""
    from rich.console import Console

    from occframe.data.inspection import inspect as look_through
    from occframe.data.sources import open_source
    from occframe.machine import default_threads
    from occframe.progress import show_progress
    from occframe.standalone import options_from, standalone_context

    context = standalone_context(device=device)
    faces = open_source(source, context, use=use, **options_from(options))
    console, threads = Console(stderr=True), threads or default_threads()
    with show_progress("looking", len(faces.ids), "images", console=console) as bar:
        found = look_through(faces, threads=threads, advance=bar.advance)
    if model:
        found.noise = _label_noise(faces, model, context, console, threads)
    if sheet:
        _write_sheet(faces, sheet, people, seed)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    _print(found)
    for note in getattr(faces, "notes", ()):
        click.echo(note)
    if sheet:
        click.echo(f"faces of {min(people, found.identities)} people: {sheet}")


def _label_noise(faces: Dataset, model: str, context: object, console: object, threads: int) -> LabelNoise:
    from occframe.data.inspection import embed_readable, find_label_noise
    from occframe.models import load_model
    from occframe.progress import show_progress

    loaded = load_model(model, context)  # type: ignore[arg-type]
    with show_progress("embedding", len(faces.ids), "images", console=console) as bar:  # type: ignore[arg-type]
        rows, vectors = embed_readable(faces, loaded, threads=threads, advance=bar.advance)
    return find_label_noise([faces.ids[row] for row in rows], [faces.subjects[row] for row in rows], vectors)


def _write_sheet(faces: Dataset, path: Path, people: int, seed: int) -> None:
    import cv2

    from occframe.data.inspection import contact_sheet

    pixels = contact_sheet(faces, people=people, pictures=8, size=96, seed=seed)
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OccframeError(f"cannot write {path}: {error.strerror}", remedy="choose another file") from error


def _print(found: Inspection) -> None:
    counts = [number for number, people in found.images_per_identity.items() for _ in range(people)]
    alone = found.images_per_identity.get(1, 0)
    lines = {
        "images": f"{found.images:,}",
        "identities": f"{found.identities:,}, {alone:,} of them with one image",
        "images an identity": f"{counts[0]} to {counts[-1]}, median {counts[len(counts) // 2]}",
        "sizes": _most(found.sizes),
        "colour": f"{found.grey:,} grey, {sum(found.sizes.values()) - found.grey:,} in colour",
        "landmarks": f"of {found.landmarks:,} images" if found.landmarks else "none",
        "attributes": ", ".join(found.attributes) or "none",
        "unreadable": _most(found.unreadable) if found.unreadable else "none",
        "duplicates": f"{len(found.duplicates):,} pictures that are there several times, {len(found.across):,} of them "
        "under several identities",
    }
    if found.noise is not None:
        share = len(found.noise.suspects) / max(1, found.noise.compared)
        lines["labels"] = f"{len(found.noise.suspects):,} of {found.noise.compared:,} images ({share:.1%}) lie nearer "
        lines["labels"] += "to another identity than to the rest of their own"
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:{width}}  {text}")
    for id, reason in found.first_unreadable:
        click.echo(f"  {id}: {reason}")
    for group in found.across[:10]:
        click.echo(f"  the same picture: {', '.join(group)}")
    for id, own, other, to_own, to_other in found.noise.suspects[:10] if found.noise else ():
        click.echo(f"  {id}: labelled {own} ({to_own:.2f}), nearer to {other} ({to_other:.2f})")


def _most(counts: dict[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{count:,} {name}" for name, count in ranked[:5])
    return shown + (f" and {len(ranked) - 5} more" if len(ranked) > 5 else "")
