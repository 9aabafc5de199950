"""occframe's own plugins pass the suite that everybody's has to, through the same one line."""

from __future__ import annotations

import torch

from occframe.testing import conformance_tests

torch.set_num_threads(1)

test_conformance = conformance_tests(
    "occframe",
    tier="all",
    expected_failures={
        "loss/adaface/gradient_is_right": "as published, no gradient flows through the margin that the norm decides",
        "backbone/onnx/is_picklable": "an ONNX Runtime session cannot be sent to another process",
    },
)
