"""Search results in Parquet: one row for each probe and rank."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from occframe.errors import OccframeError
from occframe.step import Artefact
from occframe.storage import create_file, filesystem, join
from occframe.types import Hits

_DEPTH = b"occframe.k"


@dataclass(frozen=True)
class ProbeHits:
    """Row i of ``hits`` is what the search for ``probe_ids[i]`` found."""

    probe_ids: list[str]
    hits: Hits


class HitsWriter:
    """Streams hits into the file ``url``: columns probe_id, rank (1..k), id, score.

    id and score are null where fewer than k exist. A context manager: the file appears when it is
    left, and not at all after an exception.
    """

    def __init__(self, url: str, k: int) -> None:
        self._k = k
        self._schema = pa.schema(
            [("probe_id", pa.string()), ("rank", pa.int32()), ("id", pa.string()), ("score", pa.float32())],
            metadata={_DEPTH: str(k).encode()},
        )
        self._stack = ExitStack()
        file = self._stack.enter_context(create_file(url))
        self._parquet = self._stack.enter_context(pq.ParquetWriter(file, self._schema, compression="zstd"))

    def write(self, probe_ids: Sequence[str], hits: Hits) -> None:
        missing = (hits.ids == "").ravel()
        self._parquet.write_batch(
            pa.RecordBatch.from_arrays(
                [
                    pa.array(np.repeat(np.asarray(probe_ids, object), self._k), pa.string()),
                    pa.array(np.tile(np.arange(1, self._k + 1, dtype=np.int32), len(probe_ids))),
                    pa.array(hits.ids.ravel(), pa.string(), mask=missing),
                    pa.array(hits.scores.ravel(), pa.float32(), mask=missing),
                ],
                schema=self._schema,
            )
        )

    def __enter__(self) -> HitsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def read_hits(artefact: Artefact) -> ProbeHits:
    """What a search step found for one condition. artefact: the output ``search.<condition>``, of kind "hits".

    Raises OccframeError where the file is missing or not one that a search step wrote.
    """
    where = join(artefact.url, str(artefact.meta["file"]))
    fs, path = filesystem(where)
    try:
        with fs.open(path, "rb") as file:
            table = pq.read_table(file)
        k = int(table.schema.metadata[_DEPTH])
        probe_ids = table.column("probe_id").to_pylist()[::k]
        scores = table.column("score").combine_chunks().fill_null(-np.inf).to_numpy(zero_copy_only=False)
        ids = table.column("id").combine_chunks().fill_null("").to_numpy(zero_copy_only=False)
        return ProbeHits(probe_ids, Hits(scores.reshape(-1, k), ids.reshape(-1, k)))
    except FileNotFoundError as error:
        raise OccframeError(f"the hits {where} are missing", remedy="run the search step again") from error
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise OccframeError(f"{where} is no file of hits: {error}", remedy="run the search step again") from error
