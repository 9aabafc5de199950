"""What a loss term reads from ``BackboneOutput.extras``, from a backbone of the same distribution that gives it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.images import to_model_input
from occframe.testing.check import Inapplicable
from occframe.testing.samples import occluded_batch
from occframe.testing.subject import EMBEDDING_DIM, Subject, subjects

if TYPE_CHECKING:
    from occframe.types import FaceBatch


def extras_for(subject: Subject, keys: Sequence[str], count: int) -> tuple[dict[str, Tensor], FaceBatch]:
    """The extras of a backbone in training that gives all of ``keys``, and the batch it was given.

    Raises Inapplicable where the distribution has no such backbone.
    """
    for backbone in _backbones(subject):
        spec = backbone.image_spec
        batch = occluded_batch(count, dim=EMBEDDING_DIM, height=spec.height, width=spec.width)
        with torch.no_grad():
            extras = backbone(to_model_input(batch.images, spec)).extras
        if set(keys) <= set(extras):
            return {key: extras[key].detach() for key in keys}, batch
    wanted = ", ".join(f"extras.{key}" for key in keys)
    raise Inapplicable(f"no backbone of {subject.component.owner} gives {wanted}")


def _backbones(subject: Subject) -> Iterator[Any]:
    for component in subject.registry.components("backbone"):
        if component.owner == subject.component.owner:
            try:
                examples = subjects(component, subject.registry, subject.folder(), subject.load)
            except Inapplicable:
                continue
            for example in examples:
                context = BuildContext(subject.registry, seed=0)
                yield component.load_factory()(example.config, context).train()
