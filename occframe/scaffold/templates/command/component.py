"""Adds a verb to the command line. Put your tool here."""

import click


@click.command()
@click.argument("gallery")
def {{factory}}(gallery):
    """Count the people in GALLERY, a directory of embeddings."""
    from occframe.gallery import Gallery  # imported here: `occframe --help` must stay quick

    people = {name for batch in Gallery.open(gallery).iter_batches() for name in batch.subjects}
    click.echo(f"{len(people)} people")
