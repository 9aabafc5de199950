"""How verbs are told of what a new gallery's rows have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.gallery import GallerySchema

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--model", metavar="RUN/STEP", help="The model of the embeddings; says all but the rest below."),
    click.option("--model-fingerprint", "fingerprint", metavar="TEXT", help="Its name, where there is no such model."),
    click.option("--like", metavar="GALLERY", help="Take everything from another gallery."),
    click.option("--dtype", type=click.Choice(["float16", "float32"]), help="How embeddings are stored [float16]."),
    click.option("--image-size", metavar="HxW", help="Of the pictures that the model was fed [112x112]."),
    click.option("--colour", type=click.Choice(["RGB", "BGR"]), help="Order of their channels [RGB]."),
    click.option("--mean", metavar="R,G,B", help="Subtracted from pixels in 0..1 [0.5,0.5,0.5]."),
    click.option("--std", metavar="R,G,B", help="Divided by [0.5,0.5,0.5]."),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="NAME:TYPE",
        help="A further column: string, int64, float64, bool.",
    ),
    click.option(
        "--treatment", "treatments", multiple=True, metavar="KEY=TEXT", help="Done to every picture: glasses=removed."
    ),
]


def schema_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def schema_from(options: Mapping[str, Any], *, dim: int | None) -> GallerySchema:
    """From the values of ``schema_options``. dim: where no model says it. Raises OccframeError: what is missing."""
    from pydantic import ValidationError

    from occframe.gallery import Gallery, GallerySchema
    from occframe.types import ImageSpec

    if options["like"]:
        return Gallery.open(options["like"]).schema
    fingerprint = options["fingerprint"]
    if options["model"]:
        from occframe.model_files import read_card
        from occframe.models import ModelCard

        card = read_card(options["model"], ModelCard)
        fingerprint, dim, image_spec = card.fingerprint, card.embedding_dim, card.image_spec
    else:
        height, width = _numbers("--image-size", options["image_size"] or "112x112", "x", 2)
        mean, std = (_numbers(f"--{name}", options[name] or "0.5,0.5,0.5", ",", 3) for name in ("mean", "std"))
        image_spec = ImageSpec(
            int(height), int(width), options["colour"] or "RGB", (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        )
    if not fingerprint or not dim:
        raise OccframeError(
            "a new gallery must know its model" if not fingerprint else "a new gallery must know its dimension",
            remedy="name --model RUN/STEP, or --model-fingerprint and --dim; two models never mix in one gallery",
        )
    try:
        return GallerySchema(
            dim=dim,
            dtype=options["dtype"] or "float16",
            model_fingerprint=fingerprint,
            image_spec=image_spec,
            columns=_pairs("--column", options["columns"], ":"),
            treatment=_pairs("--treatment", options["treatments"], "="),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OccframeError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _numbers(option: str, text: str, between: str, count: int) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(between)]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise OccframeError(f"{option} {text} is not {count} numbers with `{between}` between them")
    return numbers


def _pairs(option: str, texts: Sequence[str], between: str) -> dict[str, Any]:
    split = [text.partition(between) for text in texts]
    if wrong := [text for text, (_, found, _) in zip(texts, split, strict=True) if not found]:
        raise OccframeError(f"{option} {wrong[0]} has no `{between}`", remedy=f"write it as name{between}value")
    return {name: value for name, _, value in split}
