"""What can be seen of an adversarial training while it runs: sample pictures, and a page of its curves."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jinja2 import Environment
from torch import Tensor

from occframe.generators import from_generator_output, to_generator_input
from occframe.storage import exists, join, make_dirs, read_bytes, write_bytes
from occframe.training.adversarial import Adversaries, stop_on_collapse
from occframe.training.adversarial_batches import GeneratorBatch

_REFRESH_SECONDS = 20
_POINTS = 300
_WIDTH, _HEIGHT = 300, 120


class Watch:
    """Looks at every window of steps: stops a collapsed training, draws samples and the page ``training.html``.

    url: the step's directory. faces: the same few for every picture, on the networks' device; None draws none.
    every: steps between two pictures, written as ``samples/step-N.jpg``: a row of given faces, one of made ones, and
    one of what they ought to be, where that is known.
    """

    def __init__(
        self, url: str, networks: Adversaries, faces: GeneratorBatch | None, *, every: int, total_steps: int
    ) -> None:
        self._url = url
        self._networks = networks
        self._faces = faces
        self._every = every
        self._total_steps = total_steps
        self._drawn = 0

    def __call__(self, figures: Mapping[str, Any]) -> None:
        """figures: means over the window that just ended. Raises OccframeError for a collapsed generator."""
        stop_on_collapse(figures, self._total_steps)
        step = int(figures["step"])
        if step // self._every > self._drawn or step == self._total_steps:
            self._drawn = step // self._every
            sheet = None if self._faces is None else _jpeg(sample_sheet(self._networks, self._faces))
            if sheet is not None:
                make_dirs(join(self._url, "samples"))
                write_bytes(join(self._url, "samples", f"step-{step:07d}.jpg"), sheet)
            log = join(self._url, "metrics.jsonl")
            lines = [json.loads(line) for line in read_bytes(log).splitlines()] if exists(log) else []
            page = training_page([line for line in lines if line["kind"] == "steps"], sheet, step, self._total_steps)
            write_bytes(join(self._url, "training.html"), page.encode())


@torch.no_grad()
def sample_sheet(networks: Adversaries, faces: GeneratorBatch) -> np.ndarray:
    """Rows of faces, as the averaged generator sees them now. Returns array [rows * H, B * W, 3] uint8 RGB."""
    spec = networks.image_spec
    given = to_generator_input(faces.images, spec).contiguous(memory_format=torch.channels_last)
    made = from_generator_output(networks.average(given).images.float(), spec)
    rows = [_bytes(faces.images), _bytes(made)]
    if faces.reference is not faces.images:
        rows.append(_bytes(faces.reference))
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def training_page(lines: Sequence[Mapping[str, Any]], sheet: bytes | None, step: int, total_steps: int) -> str:
    """One page that loads nothing: the newest samples, and a small chart of every figure over the steps.

    lines: of ``metrics.jsonl``, of kind "steps". sheet: a JPEG. The page asks for itself anew until the last step.
    """
    clock = {"kind", "step", "epoch", "seconds", "images_per_s", "data_wait", "skipped_steps"}
    names = [name for name in (lines[-1] if lines else {}) if name not in clock]
    charts = [(name, *_line(lines, name)) for name in names]
    uri = None if sheet is None else "data:image/jpeg;base64," + base64.b64encode(sheet).decode()
    return _PAGE.render(
        charts=charts, sheet=uri, step=step, total=total_steps, width=_WIDTH, height=_HEIGHT, refresh=_REFRESH_SECONDS
    )


def _line(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[str, float, float, float]:
    """SVG points, smallest, largest and last value."""
    points = np.array([(line["step"], line[name]) for line in lines if name in line], np.float64)
    points = points[:: max(1, len(points) // _POINTS)]
    low, high = points[:, 1].min(), points[:, 1].max()
    x = (points[:, 0] - points[0, 0]) / max(np.ptp(points[:, 0]), 1) * _WIDTH
    y = _HEIGHT - (points[:, 1] - low) / max(high - low, 1e-12) * _HEIGHT
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)), low, high, points[-1, 1]


def _bytes(images: Tensor) -> np.ndarray:
    """[B, 3, H, W], uint8 or float 0..1 -> array [B, H, W, 3] uint8."""
    if images.is_floating_point():
        images = (images * 255).round().clamp(0, 255).byte()
    pictures: np.ndarray = images.permute(0, 2, 3, 1).cpu().numpy()
    return pictures


def _jpeg(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
{% if step < total %}
<meta http-equiv="refresh" content="{{ refresh }}">
{% endif %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>step {{ step }} of {{ total }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
img { width: 100%; image-rendering: auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; }
figcaption { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
svg { width: 100%; border-bottom: 1px solid currentColor; overflow: visible; }
polyline { fill: none; stroke: #2f7ed8; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
small { opacity: .7; }
</style>
</head>
<body>
<h1>Step {{ step }} of {{ total }}</h1>
{% if sheet %}
<p>Given faces, what the generator makes of them now, and what they ought to be where that is known.</p>
<img src="{{ sheet }}" alt="sample faces at step {{ step }}">
{% endif %}
<div class="charts">
{% for name, points, low, high, last in charts %}
<figure>
<figcaption><strong>{{ name }}</strong><span>{{ "%.4g" | format(last) }}</span></figcaption>
<svg viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ name }}, now {{ '%.4g' | format(last) }}">
<polyline points="{{ points }}"/></svg>
<small>{{ "%.4g" | format(low) }} to {{ "%.4g" | format(high) }}</small>
</figure>
{% endfor %}
</div>
</body>
</html>
""")
