"""``occframe explain``: why a face matched, or did not, as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from occframe.component import BuildContext
    from occframe.types import ImageSpec
    from occframe_from.explaining import Match


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", required=True, metavar="RUN/STEP", help="A trained model with capability mask_output.")
@click.option("--gallery", metavar="RUN/STEP", help="Embeddings of the same model: name the nearest faces too.")
@click.option("--hits", default=5, show_default=True, type=click.IntRange(1, 14), help="How many of these.")
@click.option(
    "--images", metavar="PATH", help="The gallery's pictures, to show the nearest: a Parquet file or a folder."
)
@click.option("--detector", metavar="NAME", help="Find and align the face first; else IMAGE is an aligned face.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Picture to write [IMAGE-explained.png].")
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def explain(
    image: Path,
    model: str,
    gallery: str | None,
    hits: int,
    images: str | None,
    detector: str | None,
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Show what a recogniser masked in the face of IMAGE, and what occlusion it saw."""
    import cv2

    from occframe.gallery import Gallery
    from occframe.models import load_model
    from occframe.standalone import standalone_context
    from occframe.storage import write_bytes
    from occframe_from.explaining import explain_face, nearest
    from occframe_from.picture import draw

    if images and not gallery:
        raise click.UsageError("--images shows the nearest of a gallery: give --gallery too")
    context = standalone_context(device=device)
    loaded = load_model(model, context, purpose="explain")
    face = _face(image, loaded.image_spec, detector, context)
    explanation = explain_face(loaded, face)
    matches = nearest(Gallery.open(gallery), loaded, explanation.embedding, hits) if gallery else []
    faces = _faces_of(matches, images, loaded.image_spec, context) if images and matches else None
    path = out or image.with_name(f"{image.stem}-explained.png")
    picture = draw(face, explanation, matches, faces)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    write_bytes(str(path), encoded.tobytes())
    if as_json:
        told = {"pattern": explanation.pattern, "probability": explanation.probability, "box": explanation.box}
        click.echo(json.dumps(told | {"picture": str(path), "matches": [asdict(match) for match in matches]}))
        return
    sure = "" if explanation.probability is None else f" ({explanation.probability:.0%} sure)"
    if explanation.box is not None:
        left, top, right, bottom = explanation.box
        click.echo(f"occluded: x {left} to {right}, y {top} to {bottom}{sure}")
    elif explanation.pattern is not None:
        click.echo(f"no occlusion seen{sure}")
    for match in matches:
        click.echo(f"{match.cosine:.3f}  {match.subject}  {match.id}")
    click.echo(f"picture: {path}")


def _face(image: Path, spec: ImageSpec, detector: str | None, context: BuildContext) -> np.ndarray:
    """The face as the model is to be fed it: array [H, W, 3] uint8 RGB."""
    from occframe.component import AlignerBlock, DetectorBlock
    from occframe.data import BadImage, decode, fit
    from occframe.errors import OccframeError
    from occframe.standalone import parse_block

    try:
        picture = decode(image.read_bytes())
    except BadImage as error:
        raise OccframeError(
            f"{image}: {error}", remedy="give a picture in JPEG, PNG or another common format"
        ) from error
    if detector is None:
        return fit(picture, spec.height, spec.width)
    found = context.build(parse_block(DetectorBlock, {"use": detector}, context)).detect(picture)
    if not found:
        raise OccframeError(f"`{detector}` finds no face in {image}", remedy="crop the picture to the face")
    size = {"use": "arcface", "height": spec.height, "width": spec.width}
    aligner = context.build(parse_block(AlignerBlock, size, context))
    aligned: np.ndarray = aligner.align(picture, found[0].landmarks).image
    return aligned


def _faces_of(matches: Sequence[Match], images: str, spec: ImageSpec, context: BuildContext) -> np.ndarray:
    """Pictures of the matches, [n, H, W, 3] uint8 RGB; black where there is none of that id."""
    import numpy as np

    from occframe.component import DatasetBlock
    from occframe.data import load_faces
    from occframe.errors import OccframeError
    from occframe.standalone import parse_block

    kind = "parquet" if images.endswith(".parquet") else "folder"
    dataset = context.build(parse_block(DatasetBlock, {"use": kind, "url": images}, context))
    row_of = {name: row for row, name in enumerate(dataset.ids)}
    known = [at for at, match in enumerate(matches) if match.id in row_of]
    if not known:
        raise OccframeError(
            f"{images} has no picture named {matches[0].id!r}, nor of any other match",
            remedy="give the pictures that the gallery was embedded from",
        )
    faces = np.zeros((len(matches), spec.height, spec.width, 3), np.uint8)
    faces[known] = load_faces(dataset, [row_of[matches[at].id] for at in known], spec.height, spec.width)
    return faces
