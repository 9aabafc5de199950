"""Generators made of others: one of several, or several at once. They work with generators of any plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext, OcclusionBlock
from occframe.errors import OccframeError
from occframe.occlusion_record import described
from occframe.random import derive_seed
from occframe.types import FaceBatch, Occluded, OcclusionGenerator
from occframe_occlusions.checks import check_batch, check_params
from occframe_occlusions.configs import Severity
from occframe_occlusions.draws import Draws
from occframe_occlusions.suite_configs import ChoiceConfig, ChoiceItem, ComposeConfig, ComposeItem
from occframe_occlusions.trees import spread, take


class _Combined:
    """Parameters: ``picked`` [B, N] bool, which images get which part, and ``parts``, each part's own, B rows each."""

    name: ClassVar[str]

    def __init__(self, parts: list[OcclusionGenerator], config: ChoiceConfig | ComposeConfig) -> None:
        self._parts = parts
        self._config = config

    @property
    def version(self) -> str:
        return "1 of " + ", ".join(str(getattr(part, "version", "?")) for part in self._parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all that any part tells apart."""
        return tuple(dict.fromkeys(name for part in self._parts for name in getattr(part, "parts", ())))

    @property
    def recipe(self) -> dict[str, Any]:
        """The options, with each part's recipe."""
        options = self._config.model_dump(mode="json")
        blocks = [item.occlusion for item in _items(self._config)]
        written = options["of" if isinstance(self._config, ChoiceConfig) else "layers"]
        for entry, block, part in zip(written, blocks, self._parts, strict=True):
            entry["occlusion"] = described(part, block)
        return options

    def pick(self, draws: Draws) -> Tensor:
        raise NotImplementedError

    def compile(self) -> None:
        for part in self._parts:
            if hasattr(part, "compile"):
                part.compile()

    def sample(self, batch: FaceBatch, seeds: Tensor) -> dict[str, Any]:
        check_batch(batch.images, seeds)
        count = len(batch.images)
        draws = Draws(seeds.to(batch.images.device), derive_seed(self.name) % 2**31)
        picked = self.pick(draws)
        bare = replace(batch, mask=None, clean=None)
        parts = []
        for generator, rows in zip(self._parts, _rows(picked, picked.device), strict=True):
            own = draws.seeds()
            # Of a part that no image gets too, so that parameters have one structure whatever the batch.
            if len(rows) or not count:
                drawn = generator.sample(take(bare, rows), own[rows])
            else:
                drawn = take(generator.sample(take(bare, rows.new_zeros(1)), own[:1]), rows)
            parts.append(spread(drawn, rows, count))
        return {"picked": picked, "parts": parts}

    def apply(self, images: Tensor, params: dict[str, Any]) -> Occluded:
        check_params(images, params["picked"])
        out = images.clone()
        mask = torch.zeros(len(images), 1, *images.shape[2:], device=images.device)
        named: dict[str, Tensor] = {}
        rows_of = _rows(params["picked"], images.device)
        for generator, own, rows in zip(self._parts, params["parts"], rows_of, strict=True):
            if not len(rows):
                continue
            occluded = generator.apply(out[rows], take(own, rows))
            out[rows] = occluded.images
            mask[rows] = mask[rows] + occluded.mask * (1 - mask[rows])
            for name, alpha in occluded.parts.items():
                total = named.setdefault(name, torch.zeros_like(mask))
                total[rows] = total[rows] + alpha * (1 - total[rows])
        return Occluded(out, mask, named)


class Choice(_Combined):
    name = "choice"

    def __init__(self, parts: list[OcclusionGenerator], config: ChoiceConfig) -> None:
        super().__init__(parts, config)
        self._weights = [item.weight for item in config.of]

    def pick(self, draws: Draws) -> Tensor:
        number, reached, total = draws.unit(), 0.0, sum(self._weights)
        place = torch.zeros_like(number, dtype=torch.int64)
        for weight in self._weights[:-1]:
            reached += weight / total
            place = place + (number >= reached)
        return place[:, None] == torch.arange(len(self._weights), device=place.device)


class Compose(_Combined):
    name = "compose"

    def __init__(self, parts: list[OcclusionGenerator], config: ComposeConfig) -> None:
        super().__init__(parts, config)
        self._probabilities = [item.probability for item in config.layers]

    def pick(self, draws: Draws) -> Tensor:
        return torch.stack([draws.unit() < probability for probability in self._probabilities], dim=1)


def _rows(picked: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Of each part, which images get it. For all parts at once, since a GPU has to be waited for."""
    rows = [column.nonzero()[:, 0] for column in picked.cpu().unbind(1)]
    together: Tensor = torch.cat(rows).to(device)
    return together.split([len(some) for some in rows])  # type: ignore[no-untyped-call, no-any-return]


def _with_severity(block: OcclusionBlock, severity: Severity | None) -> OcclusionBlock:
    if severity is None:
        return block
    if "severity" not in type(block.config).model_fields:
        raise OccframeError(
            f"occlusion `{block.use}` has no severity that could be set from outside",
            remedy="leave `severity` out and set its own options",
        )
    return block.model_copy(update={"config": block.config.model_copy(update={"severity": severity})})


def _items(config: ChoiceConfig | ComposeConfig) -> Sequence[ChoiceItem | ComposeItem]:
    return config.of if isinstance(config, ChoiceConfig) else config.layers


def choice(config: ChoiceConfig, context: BuildContext) -> Choice:
    parts = [context.build(_with_severity(item.occlusion, config.severity)) for item in config.of]
    return Choice(parts, config)


def compose(config: ComposeConfig, context: BuildContext) -> Compose:
    parts = [context.build(_with_severity(item.occlusion, config.severity)) for item in config.layers]
    return Compose(parts, config)
