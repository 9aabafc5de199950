"""``occframe gallery`` verbs that look at a gallery."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from occframe.cli.common import json_option


@click.command()
@click.argument("gallery")
@click.option("--repair", is_flag=True, help="Remove what a killed writer left, and nothing else.")
@click.option(
    "--grace",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="On a remote store a younger file stays: its writer may still be at work.",
)
@json_option
def verify(gallery: str, repair: bool, grace: float, as_json: bool) -> None:
    """Read all of GALLERY and compare it with what was written. Exits with 1 where committed data is damaged."""
    from datetime import timedelta

    from rich.console import Console

    from occframe.gallery import Gallery
    from occframe.gallery.verification import check_gallery
    from occframe.progress import show_progress

    size = sum(part.bytes for part in Gallery.open(gallery).parts) // 2**20
    rest = 0
    with show_progress("verifying", size, "MiB", console=Console(stderr=True)) as bar:

        def advance(read: int) -> None:
            nonlocal rest
            done, rest = divmod(rest + read, 2**20)
            bar.advance(done)

        found = check_gallery(gallery, repair=repair, grace=timedelta(hours=grace), advance=advance)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"ok": found.ok}, indent=2))
    else:
        click.echo(f"{gallery}: {found.rows:,} rows {'as they were written' if found.ok else 'and PROBLEMS:'}")
        for problem in found.problems:
            click.secho(f"  {problem}", fg="red")
        for name in found.garbage:
            what = "removed" if name in found.removed else "left" if repair else "garbage"
            click.echo(f"  {what}: {name}")
        if found.garbage and not repair:
            click.echo(f"  no row is in these files: occframe gallery verify {gallery} --repair removes them")
    if not found.ok:
        raise SystemExit(1)


@click.command()
@click.argument("gallery")
@json_option
def info(gallery: str, as_json: bool) -> None:
    """What GALLERY holds, without reading its rows."""
    from occframe.gallery import Gallery

    opened = Gallery.open(gallery)
    dead = sum(len(part.tombstones) for part in opened.parts)
    told = {
        "rows": opened.count,
        "deleted_rows": dead,
        "parts": len(opened.parts),
        "bytes": sum(part.bytes for part in opened.parts),
        "generation": opened.generation,
        "content_hash": opened.content_hash,
        "schema": opened.schema.model_dump(mode="json"),
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    schema, spec = opened.schema, opened.schema.image_spec
    lines = {
        "rows": f"{opened.count:,}" + (f" and {dead:,} deleted, not compacted" if dead else ""),
        "embedding": f"{schema.dim} × {schema.dtype}, norm 1",
        "model": schema.model_fingerprint,
        "pictures": f"{spec.height}×{spec.width} {spec.colour}, mean {spec.mean}, std {spec.std}",
        "columns": ", ".join(f"{name} ({kind})" for name, kind in schema.columns.items()) or "id, subject only",
        "treatment": ", ".join(f"{name}: {value}" for name, value in schema.treatment.items()) or "none",
        "parts": f"{len(opened.parts)}, {sum(part.bytes for part in opened.parts) / 2**20:,.1f} MiB",
        "generation": str(opened.generation),
    }
    for name, value in lines.items():
        click.echo(f"{name + ':':12} {value}")


@click.command()
@click.argument("gallery")
@click.argument("target")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "numpy"]),
    default="parquet",
    show_default=True,
    help="Parquet with lists, or embeddings.npy with rows.csv.",
)
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="[parquet: float32, numpy: as stored]")
@json_option
def export(gallery: str, target: str, form: str, dtype: str | None, as_json: bool) -> None:
    """Write GALLERY into the new folder TARGET, in a form that other tools read."""
    from rich.console import Console

    from occframe.gallery import Gallery
    from occframe.gallery.exporting import export_numpy, export_parquet
    from occframe.progress import show_progress

    opened = Gallery.open(gallery)
    with show_progress("exporting", opened.count, "rows", console=Console(stderr=True)) as bar:
        if form == "numpy":
            names = export_numpy(opened, target, dtype=dtype, advance=bar.advance)
        else:
            names = export_parquet(opened, target, dtype=dtype or "float32", advance=bar.advance)
    if as_json:
        click.echo(json.dumps({"rows": opened.count, "target": target, "files": names}, indent=2))
        return
    click.echo(f"{target}: {opened.count:,} rows in {', '.join(names[:3])}{' …' if len(names) > 3 else ''}")
