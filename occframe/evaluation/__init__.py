"""Evaluation: figures from embeddings. This package registers the bundled protocols; see docs/evaluation.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from occframe.hookspecs import hookimpl

if TYPE_CHECKING:
    from occframe.plugins import Register


@hookimpl
def occframe_register_protocols(register: Register) -> None:
    register(
        "verification",
        "occframe.evaluation.verification_protocol:build",
        config="occframe.evaluation.configs:VerificationConfig",
        summary="same person or not: 10-fold accuracy, TAR at FAR, EER, AUC, d' and the ROC over pairs",
    )
    register(
        "identification",
        "occframe.evaluation.identification_protocol:build",
        config="occframe.evaluation.configs:IdentificationConfig",
        summary="who is it, closed set: rank-k and the CMC of probes searched among references, or among distractors",
    )
    register(
        "open-set",
        "occframe.evaluation.open_set_protocol:build",
        config="occframe.evaluation.configs:OpenSetConfig",
        summary="who is it, if anybody enrolled: detection and identification rate at a rate of false alarms",
    )
