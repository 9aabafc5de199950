"""How often the nearest enrolled face is of the same person. Put your protocol here."""

import numpy as np

from occframe import ProtocolResult


class {{Class}}:
    """Fulfils ``occframe.types.EvaluationProtocol``."""

    def __init__(self, config, context):
        self.threshold = config.threshold

    def evaluate(self, reference, probe, hits):
        """reference, probe: EmbeddingTable, perhaps the same one. hits: of a search, or None."""
        scores = probe.vectors @ reference.vectors.T
        # A row is never compared with itself.
        scores[np.array(probe.ids)[:, None] == np.array(reference.ids)[None]] = -np.inf
        nearest = scores.argmax(1)
        same = np.array(probe.subjects) == np.array(reference.subjects)[nearest]
        sure = scores.max(1) >= self.threshold
        metrics = {"nearest is right rate": float((same & sure).mean())}
        return ProtocolResult(metrics, counts={"probes": len(probe.ids)})
