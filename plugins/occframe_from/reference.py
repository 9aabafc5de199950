"""The published network to the letter, and the parameter names of its authors' checkpoints.

=============================  =====================================  ============================================
authors                        here                                   what
=============================  =====================================  ============================================
conv1, bn1, prelu1             trunk.conv1, trunk.bn1, trunk.prelu    stem
layer1-4.N.prelu1              trunk.layer1-4.N.prelu                 the other names of a block are the same
fpn.P3_1, fpn.P4_1, fpn.P5_1   pyramid.laterals.0, .1, .2             1 × 1 on stages 2, 3 and 4
fpn.P3_2                       pyramid.smooth                         3 × 3 on the finest level
mask.0, .1, .2, .3             decoder.0, .1, .2, .3                  convolution, PReLU, batch norm, convolution
fc.0, .2, .3                   head.0, .2, .3                         batch norm, linear, batch norm
regress.0, .2, .3              predictor.0, .2, .3                    batch norm, linear without bias, batch norm
fpn.P4_2, P5_2, P6, P7_2       -                                      computed there and read by nothing: skipped
=============================  =====================================  ============================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from occframe.component import BackboneBlock
from occframe_from.network import MaskedRecogniser, assemble, initialise

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_from.configs import FromReferenceConfig

_DEAD = re.compile(r"fpn\.(P4_2|P5_2|P6|P7_2)\.")
_RENAMED = (
    (re.compile(r"^(conv1|bn1|layer[1-4])\."), r"trunk.\1."),
    (re.compile(r"^prelu1\."), "trunk.prelu."),
    (re.compile(r"^(trunk\.layer[1-4]\.\d+)\.prelu1\."), r"\1.prelu."),
    (re.compile(r"^fpn\.P3_1\."), "pyramid.laterals.0."),
    (re.compile(r"^fpn\.P4_1\."), "pyramid.laterals.1."),
    (re.compile(r"^fpn\.P5_1\."), "pyramid.laterals.2."),
    (re.compile(r"^fpn\.P3_2\."), "pyramid.smooth."),
    (re.compile(r"^mask\."), "decoder."),
    (re.compile(r"^fc\."), "head."),
    (re.compile(r"^regress\."), "predictor."),
)


class ReferenceRecogniser(MaskedRecogniser):
    """``MaskedRecogniser`` that also reads the authors' checkpoints."""

    @staticmethod
    def adapt_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' parameters under our names, dead ones left out; ours pass unchanged."""
        return to_own_names(state)

    def begin_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().begin_state_dict(to_own_names(state))


def to_own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Unknown names stay, so that the strict check reports them."""
    if "prelu1.weight" not in state:  # which no other network here has
        return dict(state)
    renamed = {}
    for key, tensor in state.items():
        if _DEAD.match(key):
            continue
        for pattern, own in _RENAMED:
            key = pattern.sub(own, key)
        renamed[key] = tensor
    return renamed


def build_reference(config: FromReferenceConfig, context: BuildContext) -> ReferenceRecogniser:
    """Built on ``iresnet50``, whose stem and stages are the authors' LResNet50E-IR."""
    written = {"use": "iresnet50", "input_size": list(config.input_size)}
    trunk = context.build(BackboneBlock.model_validate(written, context={"registry": context.registry}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        trunk.apply(initialise)
        return assemble(
            trunk,
            network=ReferenceRecogniser,
            pyramid_width=256,
            reference_head=True,
            mask_shape=config.mask_shape,
            mask_on=config.mask_on,
            patterns=config.patterns,
            blocks=config.blocks,
            open_bias=config.open_bias,
            masked=config.masked,
        )
