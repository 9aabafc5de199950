from __future__ import annotations

import click


@click.command()
@click.argument("gallery")
def count(gallery: str) -> None:
    """Count the people in GALLERY, a directory of embeddings."""
    from occframe.gallery import Gallery

    people = {name for batch in Gallery.open(gallery).iter_batches() for name in batch.subjects}
    click.echo(f"{len(people)} people")
