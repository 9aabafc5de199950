"""The user's own pictures with transparency: read, checked, and shown at any size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from occframe.data.headers import BadImage, read_header
from occframe.errors import OccframeError, first_line
from occframe.storage import filesystem
from occframe_occlusions.devices import may_look
from occframe_occlusions.suite_configs import PicturesConfig

_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
_SIDES = (128, 64, 32, 16)  # of the tables; a sprite is shown from the smallest that is not enlarged
_MAX_PIXELS = 1 << 25
_MAX_SPRITES = 20_000


class SpritePictures:
    """digest: of all that was read, wherever it lies. count: how many there are.

    Raises OccframeError where there are none, one cannot be read, or, if they must be ``square``, one is not.
    """

    def __init__(self, config: PicturesConfig, *, square: bool = False) -> None:
        digest = hashlib.blake2b(digest_size=8)
        shapes, bounds = [], []
        tables: dict[int, list[Tensor]] = {side: [] for side in _SIDES}
        for picture in _load(config, digest, square):
            table, shape = _fitted(picture)
            shapes.append(shape)
            bounds.append(_bounds(table[..., 3] > 0))
            # Light times opacity, so that what is transparent has no colour to bleed. Bytes at once: there may be many.
            whole = torch.from_numpy(table).permute(2, 0, 1)[None]
            for side in _SIDES:
                tables[side].append((whole * 255).round().to(torch.uint8))
                whole = F.avg_pool2d(whole, 2)
        self.digest = digest.hexdigest()
        self.count = len(shapes)
        joined = {side: torch.cat(several) for side, several in tables.items()}
        self._tables = {torch.device("cpu"): (torch.tensor(shapes), torch.stack(bounds), joined)}

    def shapes(self, device: torch.device) -> Tensor:
        """[N, 2]: width and height of each; the longer is 1."""
        return self._on(device)[0]

    def bounds(self, device: torch.device) -> Tensor:
        """[N, 4]: where each shows anything, left, top, right and bottom, -1..1 within the picture."""
        return self._on(device)[1]

    def show(self, sprite: Tensor, grid: Tensor, longer: Tensor) -> tuple[Tensor, Tensor]:
        """sprite: [b] int64. grid: [b, h, w, 2], -1..1 within the picture. longer: [b] pixels of its longer side.

        Returns light [b, 3, h, w] and opacity [b, h, w], both 0..1.
        """
        _, _, tables = self._on(grid.device)
        seen = torch.zeros(grid.shape[0], 4, *grid.shape[1:3], device=grid.device)
        for side, smaller in zip(_SIDES, (*_SIDES[1:], 0), strict=True):
            fits = longer > smaller if side == _SIDES[0] else (longer > smaller) & (longer <= side)
            if may_look(fits) and not fits.any():
                continue
            table = tables[side][sprite].float() / 255
            shown = F.grid_sample(table, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            seen = seen + shown * fits[:, None, None, None]
        opacity = seen[:, 3].clamp(0, 1)
        return seen[:, :3] / opacity.clamp(min=1e-3)[:, None], opacity

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Proportions, bounds and tables, copied to each device once."""
        if device not in self._tables:
            shapes, bounds, tables = self._tables[torch.device("cpu")]
            there = {side: table.to(device) for side, table in tables.items()}
            self._tables[device] = shapes.to(device), bounds.to(device), there
        return self._tables[device]


def _load(config: PicturesConfig, digest: hashlib.blake2b, square: bool) -> Iterator[np.ndarray]:
    """Arrays [H, W, 4] uint8 RGBA. Raises OccframeError where there are none, or one cannot be read."""
    found = 0
    for name, encoded in _encoded(config):
        found += 1
        if found > _MAX_SPRITES:
            raise OccframeError(f"{config.url} holds more than {_MAX_SPRITES} sprites", remedy="use fewer")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
        try:
            picture = _decoded(encoded)
        except BadImage as error:
            raise OccframeError(f"sprite {name}: {error}", remedy="repair or remove the file") from None
        if not picture[..., 3].any():
            raise OccframeError(
                f"sprite {name} is transparent all over", remedy="repair or remove it: it hides nothing"
            )
        if square and picture.shape[0] != picture.shape[1]:
            raise OccframeError(
                f"sprite {name} is {picture.shape[1]} x {picture.shape[0]} pixels, not square",
                remedy="draw it over an aligned face, as `occframe.face_frame.TEMPLATE` lays one out, or use `sprites`",
            )
        yield picture
    if not found:
        kinds = ", ".join(_SUFFIXES)
        raise OccframeError(f"no sprites at {config.url}", remedy=f"put pictures there ({kinds}), or a Parquet file")


def _encoded(config: PicturesConfig) -> Iterator[tuple[str, bytes]]:
    fs, path = filesystem(config.url)
    try:
        present = fs.exists(path)
        files = sorted(fs.find(path)) if present and fs.isdir(path) else [path]
    except Exception as error:  # of any store's own library
        raise OccframeError(
            f"cannot look at {config.url}: {first_line(error)}", remedy="check the URL, and what allows you to read it"
        ) from error
    if not present:
        raise OccframeError(f"there is nothing at {config.url}", remedy="check the `url` of the sprites")
    pictures = [name for name in files if name.lower().endswith(_SUFFIXES)]
    parts = [name for name in files if name.endswith(".parquet") or (name == path and not pictures)]
    if pictures and parts:
        raise OccframeError(
            f"{config.url} holds pictures ({pictures[0]}) and Parquet files ({parts[0]})",
            remedy="name a folder of one of the two",
        )
    yield from ((name, fs.cat_file(name)) for name in pictures)
    for name in parts:
        yield from _rows(fs, name, config)


def _rows(fs: Any, name: str, config: PicturesConfig) -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fs.open(name, "rb") as file:
        try:
            table = pq.ParquetFile(file)
            if config.image not in table.schema_arrow.names:
                raise OccframeError(
                    f"{name} has no column `{config.image}`",
                    remedy=f"name one of {', '.join(table.schema_arrow.names)} with `image`",
                )
            row = 0
            for batch in table.iter_batches(256, columns=[config.image]):
                for value in batch.column(0).to_pylist():
                    data = value.get("bytes") if isinstance(value, dict) else value
                    if not isinstance(data, bytes):
                        raise OccframeError(
                            f"{name} row {row}: `{config.image}` holds {type(data).__name__}, not a picture's bytes",
                            remedy="store encoded pictures (PNG, WebP, TIFF), or name another column with `image`",
                        )
                    yield f"{name} row {row}", data
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise OccframeError(
                f"{name} is damaged, or neither a picture ({', '.join(_SUFFIXES)}) nor a Parquet file: {error}",
                remedy="name one of these, or a folder of them; or write the file anew",
            ) from None


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


def _bounds(shown: np.ndarray) -> Tensor:
    """Of a square table [side, side] bool; of one that shows nothing its centre."""
    sides = [np.flatnonzero(shown.any(axis=axis)) for axis in (0, 1)]
    edges = [(found[0], found[-1] + 1) if len(found) else (len(shown) / 2,) * 2 for found in sides]
    return torch.tensor([[first, last] for first, last in edges]).T.flatten() * (2 / len(shown)) - 1
