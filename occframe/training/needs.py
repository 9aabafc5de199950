"""What loss terms need, checked before the first step rather than found missing in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from occframe.errors import OccframeError
from occframe.training.recogniser import Term
from occframe.types import ImageSpec

_EXTRAS = "extras."
_REMEDIES = {
    "mask": "give the step an `occlusion`",
    "clean": "give the step an `occlusion`",
    "teacher": "name a `teacher`, the model whose embeddings of unoccluded faces are to be learnt",
    "landmarks": "use a data set with landmarks, or an `align` step before this one",
}


def check_needs(terms: Sequence[Term], *, present: Collection[str], backbone: nn.Module, backbone_name: str) -> None:
    """present: which of "identities", "landmarks", "mask", "clean" and "teacher" a batch will have.

    Raises OccframeError listing everything that a term needs and nobody gives.
    """
    wanted = [(term, need) for term in terms for need in sorted(term.module.needs)]
    extras = _extras(backbone) if any(need.startswith(_EXTRAS) for _, need in wanted) else set()
    problems, remedies = [], []
    for term, need in wanted:
        if need.startswith(_EXTRAS):
            if (key := need.removeprefix(_EXTRAS)) not in extras:
                given = f"only {', '.join(sorted(extras))}" if extras else "none"
                problems.append(f"loss `{term.name}` needs `extras.{key}`; backbone `{backbone_name}` gives {given}")
                remedies.append("use a backbone that gives it")
        elif need not in present:
            problems.append(f"loss `{term.name}` needs `{need}`, which the batches will not have")
            remedies.append(_REMEDIES.get(need, f"report this to the authors of `{term.name}`: nothing gives that"))
    if problems:
        raise OccframeError("; ".join(problems), remedy="; ".join(dict.fromkeys(remedies)))


def _extras(backbone: nn.Module) -> set[str]:
    """The keys of ``BackboneOutput.extras`` in training, from a trial of two blank images that leaves no trace."""
    spec: ImageSpec = backbone.image_spec  # type: ignore[assignment]
    mode, device = backbone.training, next(backbone.parameters()).device
    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}  # batch norm would learn from it
    backbone.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            images = torch.zeros(2, 3, spec.height, spec.width, device=device)
            output = torch.func.functional_call(backbone, buffers, (images,))
    finally:
        backbone.train(mode)
    return set(output.extras)
