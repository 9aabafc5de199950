"""A good data set, and one for each promise that breaks it."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np

from occframe import Config, hookimpl
from occframe.testing.samples import TinyFaces


class NoOptions(Config):
    """Has none."""


class Good(TinyFaces):
    notes = ("two pictures were left out",)

    def __init__(self, config, context):
        super().__init__(3, 4)
        self.attributes = {"age": np.arange(12)}


class IsADataSet(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.aligned = "yes"


class IdsAreUniqueTexts(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.ids = list(self.subjects)


class ColumnsHaveARowEach(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.landmarks = self.landmarks.astype(np.float64)


class BlocksCoverEveryRowOnce(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.blocks = [range(6), range(5, 12)]


class ReadsInTheOrderAskedFor(Good):
    def read(self, rows):
        return super().read(sorted(rows))


class ThreadsMayRead(Good):
    """As one that seeks in a file that its threads share."""

    def read(self, rows):
        found = []
        for row in rows:
            self.place = row
            time.sleep(0.001)
            found += super().read([self.place])
        return found


class FingerprintIsStable(Good):
    def fingerprint(self):
        return f"at {id(self)}"


class ASecondInstanceIsEqual(Good):
    instances = itertools.count()

    def __init__(self, config, context):
        super().__init__(config, context)
        self.subjects = self.subjects[::-1] if next(self.instances) % 2 else self.subjects


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.lock = threading.Lock()


class NotesAreLines(Good):
    notes = ("one line\nand another",)


BROKEN = {
    "is_a_data_set": IsADataSet,
    "ids_are_unique_texts": IdsAreUniqueTexts,
    "columns_have_a_row_each": ColumnsHaveARowEach,
    "blocks_cover_every_row_once": BlocksCoverEveryRowOnce,
    "reads_in_the_order_asked_for": ReadsInTheOrderAskedFor,
    "threads_may_read": ThreadsMayRead,
    "fingerprint_is_stable": FingerprintIsStable,
    "a_second_instance_is_equal": ASecondInstanceIsEqual,
    "is_picklable": IsPicklable,
    "notes_are_lines": NotesAreLines,
}


@hookimpl
def occframe_register_datasets(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="drawn people")
