"""What is checked before an embedding enters a gallery: a bad row found here costs a message, found later a gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

import numpy as np

from occframe.errors import OccframeError

#: float16 rounds each coordinate by up to 2**-11 of itself, so a stored unit vector is within 1e-3 of norm 1.
NORM_TOLERANCE = 1e-2


def check_vectors(vectors: np.ndarray, ids: Sequence[str], *, dim: int) -> None:
    """vectors: array [n, D] float16 or float32. Raises OccframeError that names the first bad id."""
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise OccframeError(
            f"embeddings of shape {list(vectors.shape)} do not fit a gallery of dimension {dim}",
            remedy="they come from another model; use a gallery of their own",
        )
    if vectors.dtype not in (np.float16, np.float32):
        raise OccframeError(f"embeddings are {vectors.dtype}", remedy="convert them to float32 or float16")
    if len(vectors) != len(ids):
        raise OccframeError(f"{len(ids)} ids for {len(vectors)} embeddings", remedy="give one id an embedding")
    wide = vectors.astype(np.float32, copy=False)
    norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    # Not "> tolerance": a NaN or infinite coordinate makes the norm NaN or infinite, and must be caught here too.
    bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
    if len(bad):
        row = bad[0]
        if not np.isfinite(wide[row]).all():
            raise OccframeError(
                f"the embedding of `{ids[row]}` is not finite ({len(bad)} of {len(vectors)} rows are bad)",
                remedy="the network overflowed: embed with `precision: fp32`, and check its weights",
            )
        raise OccframeError(
            f"the embedding of `{ids[row]}` has norm {norms[row]:.4g}, not 1 ({len(bad)} of {len(vectors)} rows)",
            remedy="divide every embedding by its L2 norm first; `--normalise` does so",
        )


def check_new_ids(ids: Sequence[str], known: Set[str]) -> set[str]:
    """``ids`` as a set. Raises OccframeError for one that is empty, repeated, or in ``known`` already."""
    fresh = set(ids)
    if "" in fresh:
        raise OccframeError("an id is empty", remedy="every row needs an id of its own")
    if len(fresh) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise OccframeError(
            f"the id `{twice}` occurs twice in what is added", remedy="every row needs an id of its own"
        )
    if not known.isdisjoint(fresh):
        taken = next(item for item in ids if item in known)
        raise OccframeError(
            f"the id `{taken}` is there already",
            remedy="choose another id, or say that what exists is to be replaced or skipped",
        )
    return fresh
