"""``occframe deglass``: glasses off the faces of photographs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from occframe.errors import OccframeError

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe.removal import Remover
    from occframe.types import ImageSpec
    from occframe_deglass.photographs import FoundFace, Photographs

_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"}


@click.command()
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--generator", metavar="RUN/STEP", help="A trained generator, of a `train_generator` step.")
@click.option("--recogniser", metavar="RUN/STEP", help="A glasses recogniser, of a `train_glasses_recogniser` step.")
@click.option("--every-face", is_flag=True, help="Without a recogniser: also faces that wear no glasses.")
@click.option("--refuse-sunglasses", is_flag=True, help="Leave faces whose eyes are hidden as they are.")
@click.option("--threshold", default=0.5, show_default=True, type=click.FloatRange(0, 1, min_open=True),
              help="Probability from which a face wears glasses.")  # fmt: skip
@click.option(
    "--identity", metavar="RUN/STEP", help="A face recogniser: what is no longer the same person is not used."
)
@click.option("--least-identity", default=0.3, show_default=True, type=click.FloatRange(-1, 1),
              help="Cosine before and after, below which a result is not used.")  # fmt: skip
@click.option("--aligned", is_flag=True, help="IN holds aligned face crops: look for no faces in them.")
@click.option("--detector", default="yunet", show_default=True, metavar="NAME", help="What finds faces.")
@click.option("--min-score", default=0.6, show_default=True, type=click.FloatRange(0, 1),
              help="Faces that the detector scores lower are left alone.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@click.option("--json", "as_json", is_flag=True, help="Write a line of JSON for each picture to standard output.")
def deglass(source: Path, target: Path, as_json: bool, **options: Any) -> None:
    """Remove glasses from the faces of IN, a picture or a folder of pictures, into OUT.

    A picture without glasses is copied byte by byte. One that was changed is marked as synthesised, in its metadata; it
    keeps no other metadata.
    """
    jobs = list(_jobs(source, target))
    work = _photographs(options)
    counts: Counter[str] = Counter()
    for path, to in _shown(jobs):
        found, changed = _one(work, path, to)
        counts.update([face.outcome for face in found] if found is not None else ["unreadable"])
        _tell(path, to, found, changed, as_json)
    if not as_json and len(jobs) > 1:
        told = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.most_common()) or "no face"
        click.echo(f"{len(jobs):,} pictures in {target}: {told}")


def _jobs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures and where they go. Raises OccframeError where there are none, or one would be written over."""
    if target.resolve() == source.resolve():
        raise OccframeError(f"{source} would be written over", remedy="choose another OUT")
    if source.is_file():
        if target.is_dir():
            target = target / _named(source)
        pairs = [(source, target)]
    else:
        if target.is_file():
            raise OccframeError(f"{target} is a file, and {source} a folder", remedy="name a folder to write into")
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
        inside = [path for path in paths if target.resolve() not in path.resolve().parents]
        pairs = [(path, target / path.relative_to(source).parent / _named(path)) for path in inside]
        if not pairs:
            raise OccframeError(
                f"there are no pictures in {source}", remedy="JPEG, PNG, WebP, BMP, TIFF and PNM are read"
            )
    taken: dict[Path, Path] = {}
    for path, to in pairs:
        if to.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            raise OccframeError(f"{to}: pictures are written as JPEG or PNG", remedy="give OUT the suffix .jpg or .png")
        if to.resolve() == path.resolve():
            raise OccframeError(f"{path} would be written over", remedy="choose another OUT")
        if other := taken.get(to):
            raise OccframeError(f"{other} and {path} would both be written to {to}", remedy="rename one of them")
        taken[to] = path
        yield path, to


def _named(path: Path) -> str:
    """The name of a result: formats that cannot be marked become PNG."""
    return path.name if path.suffix.lower() in (".jpg", ".jpeg", ".png") else f"{path.stem}.png"


def _photographs(options: dict[str, Any]) -> Photographs:
    import occframe.data.decoding  # noqa: F401 - keeps OpenCV, which is imported after it, from talking
    from occframe.component import AlignerBlock, DetectorBlock
    from occframe.standalone import parse_block, standalone_context
    from occframe_deglass.photographs import Photographs

    context = standalone_context(device=options["device"])
    remover = _remover(options, context)
    if options["aligned"]:
        return Photographs(remover, None, None)
    spec: ImageSpec = remover.generator.image_spec
    size = {"use": "arcface", "height": spec.height, "width": spec.width}
    return Photographs(
        remover,
        context.build(parse_block(DetectorBlock, {"use": options["detector"]}, context)),
        context.build(parse_block(AlignerBlock, size, context)),
        options["min_score"],
    )


def _remover(options: dict[str, Any], context: BuildContext) -> Remover:
    from occframe.generators import load_generator
    from occframe.models import load_model
    from occframe.removal import Remover

    if not options["generator"]:
        raise OccframeError(
            "no generator is named, and none comes with occframe: the faces that could teach one are not free to use",
            remedy="train one with `occframe run pipelines/deglass-quick.yaml`, then give "
            "`--generator runs/deglass-quick/refined`; see docs/methods/glasses.md",
        )
    if not options["recogniser"] and not options["every_face"]:
        raise OccframeError(
            "no glasses recogniser is named, to tell who wears glasses",
            remedy="train one with `occframe run pipelines/glasses-recogniser.yaml`, then give "
            "`--recogniser runs/glasses-recogniser/glasses`; or add --every-face",
        )
    purpose: Any = "explain"
    return Remover(
        load_generator(options["generator"], context),
        load_model(options["recogniser"], context, purpose=purpose) if options["recogniser"] else None,
        load_model(options["identity"], context) if options["identity"] else None,
        threshold=options["threshold"],
        refuse_sunglasses=options["refuse_sunglasses"],
        least_identity=options["least_identity"],
    )


def _shown(jobs: list[tuple[Path, Path]]) -> Iterator[tuple[Path, Path]]:
    from rich.console import Console

    from occframe.progress import show_progress

    with show_progress("removing glasses", len(jobs), "pictures", console=Console(stderr=True)) as progress:
        for job in jobs:
            yield job
            progress.advance()


def _one(work: Photographs, path: Path, to: Path) -> tuple[list[FoundFace] | None, bool]:
    """The faces of one picture, None where it cannot be read, and whether any was changed."""
    from occframe.data import BadImage, decode
    from occframe.storage import make_dirs, write_bytes

    encoded = path.read_bytes()
    try:
        picture = decode(encoded)
    except BadImage as error:
        click.secho(f"{path}: {error.message}; left out", fg="yellow", err=True)
        return None, False
    made, found = work.remove(picture)
    changed = made is not picture
    same_format = path.suffix.lower() == to.suffix.lower()
    make_dirs(str(to.parent))
    write_bytes(str(to), encoded if same_format and not changed else _encode(made, to.suffix.lower(), changed))
    return found, changed


def _encode(picture: Any, suffix: str, synthesised: bool) -> bytes:
    from occframe.data.alignment import encoder
    from occframe.marking import GLASSES_REMOVED, mark_synthesised

    encoded = encoder("png" if suffix == ".png" else "jpeg", 95)(picture)
    return mark_synthesised(encoded, GLASSES_REMOVED) if synthesised else encoded


def _tell(path: Path, to: Path, found: list[FoundFace] | None, changed: bool, as_json: bool) -> None:
    if found is None:
        return
    if as_json:
        faces = [{key: _plain(value) for key, value in asdict(face).items()} for face in found]
        click.echo(json.dumps({"in": str(path), "out": str(to), "synthesised": changed, "faces": faces}))
        return
    outcomes = ", ".join(face.outcome for face in found) or "no face found"
    click.echo(f"{path} -> {to}: {outcomes}")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
