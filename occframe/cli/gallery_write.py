"""``occframe gallery`` verbs that change a gallery."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from occframe.cli.common import json_option
from occframe.cli.gallery_schema import schema_from, schema_options
from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.gallery import GallerySchema
    from occframe.gallery.importing import Existing, Imported, Source

existing_option = click.option(
    "--existing",
    type=click.Choice(["error", "replace", "skip"]),
    default="error",
    show_default=True,
    help="What to do with ids that are there already.",
)
normalise_option = click.option("--normalise", is_flag=True, help="Divide each embedding by its L2 norm.")


@click.command()
@click.argument("gallery")
@click.option("--dim", type=click.IntRange(1, 65_536), help="Length of an embedding; --model says it too.")
@schema_options
@json_option
def create(gallery: str, dim: int | None, as_json: bool, **options: Any) -> None:
    """Make GALLERY, without rows. It belongs to one model, which --model or --model-fingerprint names."""
    from occframe.gallery import Gallery

    made = Gallery.create(gallery, schema_from(options, dim=dim))
    if as_json:
        click.echo(made.schema.model_dump_json(indent=2))
        return
    click.echo(f"{gallery}: empty, for embeddings of dimension {made.dim} of model {made.fingerprint[:12]}")


@click.command("import")
@click.argument("source")
@click.argument("gallery")
@schema_options
@click.option("--id-column", default="id", show_default=True)
@click.option("--subject-column", default="subject", show_default=True, help="Absent in SOURCE: every id a subject.")
@click.option("--embedding-column", default="embedding", show_default=True, help="In CSV also NAME_0, NAME_1 …")
@click.option("--rows", metavar="FILE.csv", help="Names the rows of a .npy file [rows.csv beside it].")
@normalise_option
@existing_option
@json_option
def import_(
    source: str,
    gallery: str,
    id_column: str,
    subject_column: str,
    embedding_column: str,
    rows: str | None,
    normalise: bool,
    existing: Existing,
    as_json: bool,
    **options: Any,
) -> None:
    """Add the rows of SOURCE to GALLERY, which is made where there is none.

    SOURCE is a .parquet file or a folder of them (lists or fixed-size lists), a .npy matrix with a CSV file that names
    its rows, or a .csv file. After an interruption, the same command with --existing skip goes on.
    """
    from occframe.gallery.importing import SourceColumns, open_source
    from occframe.gallery.manifest import MANIFEST
    from occframe.storage import exists, join

    opened = open_source(source, SourceColumns(id_column, subject_column, embedding_column), rows=rows)
    if exists(join(gallery, MANIFEST)):
        if new := [name for name in options if options[name] and name not in ("model", "fingerprint")]:
            raise OccframeError(
                f"the gallery {gallery} is there already, and --{new[0].rstrip('s').replace('_', '-')} is for new ones",
                remedy="leave it out, or import into another place",
            )
        schema = _schema_there(gallery, opened, options)
    elif opened.schema is not None and not any(options.values()):
        schema = opened.schema
    else:
        schema = schema_from(options, dim=opened.dim)
    _report(gallery, _import(opened, gallery, schema, normalise, existing), as_json)


@click.command()
@click.argument("gallery")
@click.argument("source")
@click.option("--model", metavar="RUN/STEP", help="Embeds pictures; or the one that made the embeddings in SOURCE.")
@click.option("--model-fingerprint", "fingerprint", metavar="TEXT", help="Of the model that made those in SOURCE.")
@click.option("--use", help="The data set component that reads the pictures; by file names if absent.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of it: aligned=true.")
@click.option("--flip", is_flag=True, help="Average each picture with its mirror image, as the gallery was made.")
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@normalise_option
@existing_option
@json_option
def add(
    gallery: str,
    source: str,
    model: str | None,
    fingerprint: str | None,
    use: str | None,
    settings: tuple[str, ...],
    flip: bool,
    device: str,
    normalise: bool,
    existing: Existing,
    as_json: bool,
) -> None:
    """Add SOURCE to GALLERY: pictures of aligned faces (any data set) with --model, or a file of embeddings.

    The next search finds them; no index has to be built again.
    """
    from occframe.gallery import Gallery
    from occframe.gallery.importing import SourceColumns, open_source
    from occframe.gallery.source_numpy import find_numpy

    opened_gallery = Gallery.open(gallery)
    is_file = source.lower().endswith((".npy", ".csv", ".csv.gz")) or find_numpy(source)
    if not is_file and (use or settings or not _has_embeddings(source)):
        if not model:
            raise OccframeError(
                f"{source} is no file of embeddings, and pictures need a model",
                remedy="name it with --model RUN/STEP, or give a .parquet, .npy or .csv file",
            )
        _add_pictures(opened_gallery, source, model, use, settings, flip, device, existing, as_json)
        return
    opened = open_source(source, SourceColumns())
    schema = _schema_there(gallery, opened, {"model": model, "fingerprint": fingerprint})
    _report(gallery, _import(opened, gallery, schema, normalise, existing), as_json)


def _has_embeddings(source: str) -> bool:
    """Whether the first Parquet file there has a column of that name; pictures come in Parquet too."""
    import pyarrow.parquet as pq

    from occframe.gallery.source_parquet import find_parquet
    from occframe.storage import filesystem

    files = find_parquet(source)
    if not files:
        return False
    fs, path = filesystem(files[0])
    try:
        with fs.open(path, "rb") as file:
            return "embedding" in pq.read_schema(file).names
    except (OSError, ValueError):
        return False


def _add_pictures(
    gallery: Any,
    source: str,
    model: str,
    use: str | None,
    settings: tuple[str, ...],
    flip: bool,
    device: str,
    existing: Existing,
    as_json: bool,
) -> None:
    from rich.console import Console

    from occframe.data.sources import open_source as open_pictures
    from occframe.gallery.enrolling import enrol
    from occframe.models import load_model
    from occframe.progress import show_progress
    from occframe.standalone import options_from, standalone_context

    context = standalone_context(device=device)
    faces = open_pictures(source, context, use=use, **options_from(settings))
    if not faces.aligned:
        click.echo("these faces are not aligned, only scaled and cut to size, which costs accuracy", err=True)
    loaded = load_model(model, context, purpose="explain" if gallery.schema.columns else "embed")
    with show_progress("embedding", len(faces.ids), "images", console=Console(stderr=True)) as bar:
        done = enrol(gallery, faces, loaded, existing=existing, flip=flip, advance=bar.advance)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
        return
    click.echo(f"{gallery.url}: {done.added:,} added, {done.skipped:,} were there; now {gallery.count:,}")
    if done.unreadable:
        click.echo(f"  {done.unreadable}")


def _schema_there(gallery: str, source: Source, options: dict[str, Any]) -> GallerySchema:
    """The schema of a gallery that is there, once it is known that the rows of ``source`` are of its model."""
    from occframe.gallery import Gallery

    schema = Gallery.open(gallery).schema
    said = options["fingerprint"]
    if options["model"]:
        from occframe.model_files import read_card
        from occframe.models import ModelCard

        said = read_card(options["model"], ModelCard).fingerprint
    if source.schema is None and said is None:
        raise OccframeError(
            f"{source.url} does not say which model made its embeddings",
            remedy=f"if it was the gallery's, say so: --model-fingerprint {schema.model_fingerprint}",
        )
    if said is not None and said != schema.model_fingerprint:
        raise OccframeError(
            f"the gallery {gallery} is of model {schema.model_fingerprint}, these rows are of {said}",
            remedy="scores between two models mean nothing: use a gallery of their own",
        )
    return schema


def _import(source: Source, gallery: str, schema: GallerySchema, normalise: bool, existing: Existing) -> Imported:
    from rich.console import Console

    from occframe.gallery.importing import import_rows
    from occframe.progress import show_progress

    with show_progress("importing", source.rows, "rows", console=Console(stderr=True)) as bar:
        return import_rows(gallery, source, schema, normalise=normalise, existing=existing, advance=bar.advance)


def _report(gallery: str, done: Imported, as_json: bool) -> None:
    from occframe.gallery import Gallery

    count = Gallery.open(gallery).count
    if as_json:
        click.echo(json.dumps(asdict(done) | {"count": count}, indent=2))
        return
    skipped = f", {done.skipped:,} were there already" if done.skipped else ""
    click.echo(f"{gallery}: {done.added:,} rows added{skipped}; now {count:,}")


@click.command()
@click.argument("gallery")
@click.option("--id", "ids", multiple=True, metavar="ID", help="A row; may be given several times.")
@click.option("--subject", "subjects", multiple=True, metavar="SUBJECT", help="A person, with all rows.")
@click.option(
    "--ids-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Ids, one a line.",
)
@click.option("--missing-ok", is_flag=True, help="Pass over what is not there; else nothing is deleted then.")
@json_option
def delete(
    gallery: str,
    ids: tuple[str, ...],
    subjects: tuple[str, ...],
    ids_from: Path | None,
    missing_ok: bool,
    as_json: bool,
) -> None:
    """Delete rows of GALLERY: no search finds them again. Their bytes are gone after `occframe gallery compact`."""
    from occframe.gallery import Gallery

    named = [*ids, *(ids_from.read_text(encoding="utf-8").splitlines() if ids_from else [])]
    if not named and not subjects:
        raise click.UsageError("name what to delete: --id, --subject or --ids-from")
    opened = Gallery.open(gallery)
    deleted = opened.delete([name for name in named if name], subjects=subjects, missing_ok=missing_ok)
    dead = sum(len(part.tombstones) for part in opened.parts)
    if as_json:
        click.echo(json.dumps({"deleted": deleted, "count": opened.count, "not_compacted": dead}, indent=2))
        return
    click.echo(f"{gallery}: {deleted:,} rows deleted; now {opened.count:,}")
    if dead:
        click.echo(f"{dead:,} deleted rows are still in the files: occframe gallery compact {gallery}")


@click.command()
@click.argument("gallery")
@json_option
def compact(gallery: str, as_json: bool) -> None:
    """Rewrite GALLERY without its deleted rows: then no byte of them is left in its files. Small parts are joined.

    Indexes built of what is rewritten hold the deleted embeddings too and are removed; build them again.
    """
    from rich.console import Console

    from occframe.gallery import Gallery
    from occframe.progress import show_progress

    opened = Gallery.open(gallery)
    with show_progress("compacting", None, "rows", console=Console(stderr=True)) as bar:
        done = opened.compact(bar.advance)
    dead = sum(len(part.tombstones) for part in opened.parts)
    if as_json:
        click.echo(json.dumps(asdict(done) | {"not_compacted": dead}, indent=2))
        return
    click.echo(f"{gallery}: {done.removed:,} deleted rows removed; parts: {done.rewritten} became {done.written}")
    for name in done.dropped:
        click.echo(f"  removed {name}")
    for name in done.left:
        click.echo(f"  left {name}: a writer is at work that may be about to publish it")
    if dead:
        click.echo(f"  {dead:,} rows were deleted meanwhile and are still in the files; compact again")
