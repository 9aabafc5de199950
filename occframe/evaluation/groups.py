"""Parts of the trials by what is known of their faces: an attribute, or how much of a region is hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from occframe.errors import OccframeError
from occframe.types import EmbeddingTable

_MOST_VALUES = 20


@dataclass(frozen=True)
class Part:
    """label: of the group. chosen: bool, over the trials. low, high: of a bin, None where values are no numbers."""

    label: str
    chosen: np.ndarray
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Values:
    """One column on both sides. codes: float64, or int64 into ``names``, by row. edges: of bins; none: by value."""

    column: str
    reference: np.ndarray
    probe: np.ndarray
    names: Sequence[str]
    edges: Sequence[float]

    def of_pairs(self, reference_rows: np.ndarray, probe_rows: np.ndarray) -> Iterator[Part]:
        """Bins by the larger of the two values: the worse picture decides. Values as unordered pairs."""
        first, second = self.reference[reference_rows], self.probe[probe_rows]
        if self.edges:
            yield from self._bins(np.fmax(first, second))
            return
        low, high = np.minimum(first, second), np.maximum(first, second)
        for one in range(len(self.names)):
            for other in range(one, len(self.names)):
                label = self.names[one] if one == other else f"{self.names[one]} + {self.names[other]}"
                yield Part(label, (low == one) & (high == other))

    def of_probes(self, rows: np.ndarray) -> Iterator[Part]:
        if self.edges:
            yield from self._bins(self.probe[rows])
            return
        for code, name in enumerate(self.names):
            yield Part(name, self.probe[rows] == code)

    def _bins(self, values: np.ndarray) -> Iterator[Part]:
        for low, high in zip(self.edges[:-1], self.edges[1:], strict=True):
            # The last bin holds its upper edge: all that can be hidden is 1.
            inside = (values >= low) & ((values < high) | ((high == self.edges[-1]) & (values == high)))
            yield Part(f"{low:g}..{high:g}", inside, low, high)


def columns_of(by: Mapping[str, Sequence[float]], reference: EmbeddingTable, probe: EmbeddingTable) -> Iterator[Values]:
    """by: column -> edges of its bins, ascending; empty for a column that is grouped by value.

    Raises OccframeError: a table lacks a column, bins are asked of text, or there are too many values.
    """
    for column, edges in by.items():
        first, second = (_column(column, table) for table in (reference, probe))
        if edges:
            try:
                yield Values(column, first.astype(np.float64), second.astype(np.float64), (), edges)
            except (TypeError, ValueError):
                raise OccframeError(
                    f"`{column}` has no numbers to put into bins, e.g. {second[0]!r}",
                    remedy=f"write `by: {{{column}: []}}` to group by value",
                ) from None
            continue
        texts = [np.array([_text(value) for value in side.tolist()], object) for side in (first, second)]
        names = sorted({text for side in texts for text in side if text is not None})
        if len(names) > _MOST_VALUES:
            raise OccframeError(
                f"`{column}` has {len(names)} values, too many to show one by one",
                remedy=f"give the edges of bins, e.g. `by: {{{column}: [0, 0.1, 0.5, 1]}}`, or another column",
            )
        code = {name: place for place, name in enumerate(names)} | {None: -1}
        rows, columns = (np.array([code[text] for text in side], np.int64) for side in texts)
        yield Values(column, rows, columns, names, ())


def _column(column: str, table: EmbeddingTable) -> np.ndarray:
    if column not in table.columns:
        there = ", ".join(sorted(table.columns)) or "none"
        raise OccframeError(
            f"nothing is known of the faces' `{column}`",
            remedy=f"`by` names attributes of the data set or hidden_face, hidden_eyes, hidden_nose, hidden_mouth; "
            f"there are: {there}",
        )
    return np.asarray(table.columns[column])


def _text(value: object) -> str | None:
    """None for what is not known; a face of unknown value is in no group."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
