"""Occluders from the user's own pictures with transparency."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from occframe.component import BuildContext
from occframe.data.headers import BadImage, read_header
from occframe.errors import OccframeError
from occframe.storage import filesystem
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.devices import constant
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import per_image
from occframe_occlusions.suite_configs import SpritesConfig

_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
_SIDES = (128, 64, 32, 16)  # of the tables; a sprite is shown from the smallest that is not enlarged
_MAX_PIXELS = 1 << 25
_MAX_SPRITES = 20_000


class Sprites(Painted):
    name = "sprites"
    fades = False
    parts: ClassVar[tuple[str, ...]] = ()
    config: SpritesConfig

    def __init__(self, config: SpritesConfig) -> None:
        super().__init__(config)
        digest = hashlib.blake2b(digest_size=8)
        pictures = [_fitted(picture) for picture in _load(config, digest)]
        # The pictures are part of what the generator is, wherever they lie.
        self.version = f"1 with sprites {digest.hexdigest()}"
        self.recipe = config.model_dump(mode="json", exclude={"url", "image"}) | {"sprites": digest.hexdigest()}
        self._count = len(pictures)
        shapes = torch.tensor([shape for _, shape in pictures])
        whole = torch.from_numpy(np.stack([table for table, _ in pictures])).permute(0, 3, 1, 2)
        # Light times opacity, so that what is transparent has no colour to bleed.
        tables = {}
        for side in _SIDES:
            tables[side] = (whole * 255).round().to(torch.uint8)
            whole = F.avg_pool2d(whole, 2)
        self._tables = {torch.device("cpu"): (shapes, tables)}

    def _on(self, device: torch.device) -> tuple[Tensor, dict[int, Tensor]]:
        """The sprites' proportions [N, 2] and their tables, copied to each device once."""
        if device not in self._tables:
            shapes, tables = self._tables[torch.device("cpu")]
            self._tables[device] = shapes.to(device), {side: table.to(device) for side, table in tables.items()}
        return self._tables[device]

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        height, width = images.shape[2:]
        sprite = draws.whole(self._count)
        scale = draws.row([(value,) for value in self.config.scales], draws.whole(len(self.config.scales)))[:, 0]
        longer = scale * (self.config.unit * min(height, width)) * params["severity"] * 2
        shape = self._on(images.device)[0][sprite]
        centre = torch.stack([(draws.unit() * width).floor(), (draws.unit() * height).floor()], dim=1)
        return {"sprite": sprite, "centre": centre, "half": shape * longer[:, None] * 0.5}

    def boxes(self, params: Params, height: int, width: int) -> Tensor:
        low, high = params["centre"] - params["half"] - 1, params["centre"] + params["half"] + 2
        size = constant((width, height), low.device)
        low, high = low.floor().clamp(min=0).minimum(size), high.ceil().clamp(min=0).minimum(size)
        return torch.cat([low.flip(1), high.flip(1)], dim=1).long() * (params["severity"] > 0)[:, None]

    def paint(self, canvas: Canvas, params: Params) -> None:
        half_x, half_y = (per_image(value).clamp(min=0.25) for value in params["half"].unbind(1))
        centre_x, centre_y = (per_image(value) for value in params["centre"].unbind(1))
        x, y = (canvas.x - centre_x) / half_x, (canvas.y - centre_y) / half_y
        grid = torch.stack([x + y * 0, y + x * 0], dim=3)
        longer = params["half"].amax(1) * 2
        _, tables = self._on(grid.device)
        seen = torch.zeros(len(grid), 4, *grid.shape[1:3], device=grid.device)
        for side, smaller in zip(_SIDES, (*_SIDES[1:], 0), strict=True):
            fits = longer > smaller if side == _SIDES[0] else (longer > smaller) & (longer <= side)
            if grid.device.type == "cpu" and not fits.any():
                continue
            table = tables[side][params["sprite"]].float() / 255
            shown = F.grid_sample(table, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            seen = seen + shown * fits[:, None, None, None]
        alpha = seen[:, 3].clamp(0, 1)
        light = seen[:, :3] / alpha.clamp(min=1e-3)[:, None]
        canvas.grain = float(self.config.match_light)
        canvas.over(None, alpha, canvas.lit(light) if self.config.match_light else light)


def _load(config: SpritesConfig, digest: hashlib.blake2b) -> Iterator[np.ndarray]:
    """Arrays [H, W, 4] uint8 RGBA. Raises OccframeError where there are none, or one cannot be read."""
    found = 0
    for name, encoded in _encoded(config):
        found += 1
        if found > _MAX_SPRITES:
            raise OccframeError(f"{config.url} holds more than {_MAX_SPRITES} sprites", remedy="use fewer")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
        try:
            yield _decoded(encoded)
        except BadImage as error:
            raise OccframeError(f"sprite {name}: {error}", remedy="repair or remove the file") from None
    if not found:
        kinds = ", ".join(_SUFFIXES)
        raise OccframeError(f"no sprites at {config.url}", remedy=f"put pictures there ({kinds}), or a Parquet file")


def _encoded(config: SpritesConfig) -> Iterator[tuple[str, bytes]]:
    fs, path = filesystem(config.url)
    if not fs.exists(path):
        raise OccframeError(f"there is nothing at {config.url}", remedy="check the `url` of the sprites")
    if fs.isdir(path):
        for name in sorted(fs.find(path)):
            if name.lower().endswith(_SUFFIXES):
                yield name, fs.cat_file(name)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fs.open(path, "rb") as file:
        try:
            table = pq.ParquetFile(file)
            if config.image not in table.schema_arrow.names:
                raise OccframeError(
                    f"{config.url} has no column `{config.image}`",
                    remedy=f"name one of {', '.join(table.schema_arrow.names)} with `image`",
                )
            row = 0
            for batch in table.iter_batches(256, columns=[config.image]):
                for value in batch.column(0).to_pylist():
                    data = value.get("bytes") if isinstance(value, dict) else value
                    yield f"{config.url} row {row}", data if isinstance(data, bytes) else b""
                    row += 1
        except pa.ArrowInvalid as error:
            raise OccframeError(f"{config.url} is not a Parquet file: {error}", remedy="name a folder or one") from None


def _decoded(encoded: bytes) -> np.ndarray:
    header = read_header(encoded)
    if header.width * header.height > _MAX_PIXELS:
        raise BadImage("too many pixels", f"{header.width} x {header.height}, at most {_MAX_PIXELS} are decoded")
    try:
        stored = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadImage(f"corrupt {header.format}", error.err) from None
    if stored is None:
        raise BadImage(f"corrupt {header.format}", f"{len(encoded)} bytes that its decoder does not read")
    if stored.dtype == np.uint16:
        stored = (stored // 256).astype(np.uint8)
    if stored.dtype != np.uint8:
        raise BadImage("unusual pixel type", str(stored.dtype))
    if stored.ndim == 2:
        return cv2.cvtColor(stored, cv2.COLOR_GRAY2RGBA)
    return cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGBA)


def _fitted(picture: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """A square table [side, side, 4] of light times opacity, 0..1, and the picture's width and height; the longer is 1.

    The table is stretched to the square, and shown in the picture's own proportions.
    """
    values = picture.astype(np.float32) / 255
    values[..., :3] = values[..., :3] * values[..., :3] * values[..., 3:]
    height, width = picture.shape[:2]
    side = _SIDES[0]
    shrinks = max(height, width) > side
    table = cv2.resize(values, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    longer = max(height, width)
    return np.clip(table, 0, 1), (width / longer, height / longer)


def build(config: SpritesConfig, context: BuildContext) -> Sprites:
    return Sprites(config)
