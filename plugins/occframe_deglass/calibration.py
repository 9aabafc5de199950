"""Probabilities that mean what they say, and how far off they are.

Logits are divided by a temperature (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML
2017), and those of glasses get a bias, as in Platt scaling (1999): half of what is learnt from wears glasses, and few
people do. labels: int64 [N], a class, or ``EITHER`` where all that is known is that there are glasses.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

EITHER = 3

_BINS = 15
_GOLDEN = (math.sqrt(5) - 1) / 2


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """log p of what is known of each face, [N]. logits: float [N, 3]."""
    logs = logits.log_softmax(1)
    either = torch.logsumexp(logs[:, 1:], 1)
    exact = logs.gather(1, labels.clamp(max=2)[:, None])[:, 0]
    return torch.where(labels == EITHER, either, exact)


def calibrated(logits: Tensor, temperature: float, bias: float) -> Tensor:
    """logits [N, 3] -> logits whose softmax is to be believed."""
    return logits / temperature + bias * logits.new_tensor([0.0, 1.0, 1.0])


def fit_calibration(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """(temperature, bias) under which ``labels`` are likeliest; a temperature of 0.05 to 20, a bias of -10 to 10.

    A normal prior as heavy as one face, of deviation 1 on the temperature's logarithm and 3 on the bias, keeps both in
    bounds where a few faces are told apart without a mistake.
    """
    logits = logits.double()

    def loss(temperature: float, bias: float) -> float:
        prior = (math.log(temperature) ** 2 + (bias / 3) ** 2) / 2
        return (prior - float(log_likelihood(calibrated(logits, temperature, bias), labels).sum())) / len(labels)

    def best_bias(log_temperature: float) -> float:
        return _golden_section(lambda bias: loss(math.exp(log_temperature), bias), -10.0, 10.0)

    found = _golden_section(lambda place: loss(math.exp(place), best_bias(place)), math.log(0.05), math.log(20.0))
    return math.exp(found), best_bias(found)


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is least, to a ten-thousandth of the interval."""
    first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_first, at_second = function(first), function(second)
    for _ in range(20):
        if at_first < at_second:
            high, second, at_second = second, first, at_first
            first = high - _GOLDEN * (high - low)
            at_first = function(first)
        else:
            low, first, at_first = first, second, at_second
            second = low + _GOLDEN * (high - low)
            at_second = function(second)
    return (low + high) / 2


def expected_calibration_error(probability: Tensor, truth: Tensor) -> float:
    """Mean gap between confidence and accuracy of a yes-or-no, weighted over 15 bins of confidence; 0..0.5.

    probability: [N] of yes. truth: bool [N].
    """
    confidence = torch.maximum(probability, 1 - probability).double()
    right = ((probability >= 0.5) == truth).double()
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    gap = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, confidence - right)
    return float(gap.abs().sum() / len(truth))


def f1_score(found: Tensor, truth: Tensor) -> float:
    """Harmonic mean of precision and recall, bool [N] each; 0 where nothing was found or nothing was there."""
    hits = int((found & truth).sum())
    total = int(found.sum()) + int(truth.sum())
    return 2 * hits / total if total else 0.0
