"""Counts the faces of every person in a data set. Put your work here."""

from collections import Counter

from occframe import StepOutcome
from occframe.storage import join, write_json


class {{Class}}:
    """Fulfils ``occframe.types.PipelineStep``."""

    def run(self, context):
        """``context.url`` is this step's own directory; what an interrupted attempt left there may be used."""
        faces = context.dataset(context.config.data)
        counts = {name: count for name, count in Counter(faces.subjects).items() if count >= context.config.at_least}
        write_json(join(context.url, "counts.json"), counts)
        return StepOutcome(
            outputs={"": {"file": "counts.json"}},
            metrics={"people": float(len(counts))},
            headlines=[f"{context.name}: {len(counts)} people"],
        )


def build(config, context):
    return {{Class}}()
