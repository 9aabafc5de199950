"""``occframe occlusions``: what there is, and what it does to faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from occframe.component import BuildContext, DatasetBlock, OcclusionBlock
from occframe.errors import OccframeError
from occframe.standalone import options_from, parse_block, standalone_context

if TYPE_CHECKING:
    import numpy as np

    from occframe.types import FaceBatch


@click.group()
def occlusions() -> None:
    """Occlusion generators."""


@occlusions.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def list_generators(as_json: bool) -> None:
    """What can stand after `occlusion: {use: …}`."""
    components = sorted(standalone_context().registry.components("occlusion"), key=lambda item: item.name)
    if as_json:
        import json

        rows = [{"name": item.name, "owner": item.owner, "summary": item.summary} for item in components]
        click.echo(json.dumps(rows, indent=2))
        return
    width = max((len(item.name) for item in components), default=0)
    for item in components:
        click.echo(f"{item.name:{width}}  {item.summary}")


@occlusions.command()
@click.option("--use", required=True, help="A generator, as `occframe occlusions list` names it.")
@click.option("--severity", type=click.FloatRange(0, 1), help="How much is hidden, 0..1; as configured if absent.")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="An option of the generator, as YAML.")
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    help="A folder of aligned face crops, or a Parquet file or folder of faces; drawn faces if absent.",
)
@click.option("--count", default=8, show_default=True, type=click.IntRange(1, 200), help="Faces on the sheet.")
@click.option("--size", default=112, show_default=True, type=click.IntRange(32, 512), help="Pixels a side of a face.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Other numbers, other occlusions."
)
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The sheet, a PNG.")
def preview(
    use: str,
    severity: float | None,
    options: tuple[str, ...],
    images: Path | None,
    count: int,
    size: int,
    seed: int,
    out: Path,
) -> None:
    """A sheet of faces before, after, and what was hidden (white), a row each."""
    import cv2
    import numpy as np
    import torch

    from occframe.random import derive_seed

    context = standalone_context(seed=seed)
    written = _written(use, severity, options)
    generator = context.build(parse_block(OcclusionBlock, written, context))
    batch = _faces(images, count, size, context)
    seeds = torch.tensor([derive_seed(seed, number) for number in range(len(batch.images))])
    occluded = generator.apply(batch.images, generator.sample(batch, seeds))
    mask = (occluded.mask * 255).round().byte().expand(-1, 3, -1, -1)
    rows = [_strip(batch.images), _strip(occluded.images), _strip(mask)]
    encoded = cv2.imencode(".png", np.ascontiguousarray(np.vstack(rows)[:, :, ::-1]))[1]
    try:
        out.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OccframeError(f"cannot write {out}: {error.strerror}", remedy="choose another file with -o") from error
    hidden = occluded.mask.mean().item()
    click.echo(f"{out}: {len(batch.images)} faces, before, after and hidden; {hidden:.0%} of the pixels hidden")


def _written(use: str, severity: float | None, options: tuple[str, ...]) -> dict[str, Any]:
    try:
        set_to = options_from(options)
    except OccframeError as error:
        raise click.BadParameter(error.message, param_hint="--set") from error
    return {"use": use} | ({} if severity is None else {"severity": severity}) | set_to


def _faces(images: Path | None, count: int, size: int, context: BuildContext) -> FaceBatch:
    from occframe.data import FaceLoader

    if images is not None and images.is_dir() and next(images.glob("*.parquet"), None) is None:
        return _folder(images, count, size)
    written = {"use": "synthetic", "size": size, "identities": count, "images": 1}
    if images is not None:
        written = {"use": "parquet", "url": str(images)}
    dataset = context.build(parse_block(DatasetBlock, written, context))
    loader = FaceLoader(dataset, height=size, width=size, batch_size=min(count, len(dataset.ids)), threads=1, seed=0)
    return next(iter(loader.epoch(0)))


def _folder(folder: Path, count: int, size: int) -> FaceBatch:
    import numpy as np
    import torch

    from occframe.data import BadImage, decode, fit
    from occframe.face_frame import template_landmarks
    from occframe.types import FaceBatch

    pictures: list[np.ndarray] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            pictures.append(fit(decode(path.read_bytes()), size, size))
        except BadImage:
            continue  # other files may lie beside the pictures
        if len(pictures) == count:
            break
    if not pictures:
        raise OccframeError(f"no picture in {folder} can be read", remedy="name a folder of aligned face crops")
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    landmarks = template_landmarks(size, size).expand(len(pictures), 5, 2)
    return FaceBatch(images=stacked, index=torch.arange(len(pictures)), landmarks=landmarks)


def _strip(images: Any) -> np.ndarray:
    import numpy as np

    return np.hstack(list(images.permute(0, 2, 3, 1).numpy()))
