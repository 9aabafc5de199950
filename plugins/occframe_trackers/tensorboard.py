"""Event files as TensorBoard reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from occframe.errors import OccframeError
from occframe.storage import join, local_path
from occframe.yamlfile import dump_yaml

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe.types import RunFacts
    from occframe_trackers.configs import TensorBoardConfig


class TensorBoardTracker:
    """Fulfils ``occframe.types.Tracker``. A resumed run adds a second file to the first; TensorBoard shows both as one.

    Tags are ``STEP/FIGURE`` and, of what a finished step reports, ``results/STEP/FIGURE``. Raises OccframeError where
    TensorBoard is not installed.
    """

    def __init__(self, config: TensorBoardConfig, context: BuildContext) -> None:
        self._config = config
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OccframeError(
                f"the tracker `tensorboard` needs TensorBoard: {error}", remedy="pip install 'occframe[tensorboard]'"
            ) from error
        self._open = SummaryWriter

    def begin(self, run: RunFacts) -> None:
        url = self._config.url or join(run.url, "tensorboard")
        # TensorBoard reads fsspec's URLs itself.
        self._writer = self._open(str(local_path(url) or url), flush_secs=max(1, round(self._config.seconds)))
        self._writer.add_text("pipeline", f"```yaml\n{dump_yaml(dict(run.config))}```")

    def figures(self, source: str, figures: Mapping[str, float], step: int | None) -> None:
        source = f"results/{source}" if step is None else source
        for name, value in figures.items():
            if not math.isnan(value):
                self._writer.add_scalar(f"{source}/{name}", value, step or 0)

    def finish(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()
