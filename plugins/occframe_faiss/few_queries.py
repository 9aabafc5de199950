"""A few queries against rows on a GPU: each row is read once, at the speed of the memory it lies in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: With more queries the matrix product costs more than reading the rows, and FAISS's is as good.
FEW = 4
#: Rows scored at a time; their scores take 32 MiB a query.
_BLOCK = 1 << 23
#: ``torch.mm`` writes float32 scores of float16 rows from this version on. Rounded to float16, too many would be equal.
_SINCE = (2, 8)


def reads_once(rows: Tensor) -> bool:
    """Whether ``best_rows`` is made for these rows: float16 on a GPU, and a torch that keeps all digits of scores."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    return rows.is_cuda and rows.dtype == torch.float16 and version >= _SINCE


@torch.inference_mode()
def best_rows(rows: Tensor, queries: np.ndarray, k: int) -> np.ndarray:
    """The k rows of largest inner product with each query, int64 [Q, k], the best first.

    rows: Tensor [N, D] float16. queries: array [Q, D] float32. k: at most N. Scores are float32: a query is taken as
    the sum of two float16 vectors, which costs no further reading of the rows.
    """
    asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(rows.device)
    high = asked.half()
    columns = torch.cat([high, (asked - high.float()).half()]).T.contiguous()
    scores = torch.empty(len(asked), 0, device=rows.device)
    found = torch.empty(len(asked), 0, dtype=torch.int64, device=rows.device)
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        parts = _product(block, columns).view(len(block), 2, len(asked))
        best, at = torch.topk((parts[:, 0] + parts[:, 1]).T.contiguous(), min(k, len(block)))
        scores, found = torch.cat([scores, best], 1), torch.cat([found, at + first], 1)
    numbers: np.ndarray = found.gather(1, torch.topk(scores, k).indices).cpu().numpy()
    return numbers


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """float32 [N, C] of float16 operands."""
    if rows.is_cuda:
        return torch.mm(rows, columns, out_dtype=torch.float32)
    return rows.float() @ columns.float()
