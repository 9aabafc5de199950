"""Reads a table of people: one line a picture, `path,identity`."""

import csv
import hashlib
from pathlib import Path

from occframe import OccframeError


class {{Class}}:
    """Fulfils ``occframe.types.Dataset``."""

    landmarks = None  # or an array [N, 5, 2] float32, pixels
    aligned = True  # every picture is a face crop already

    def __init__(self, config, context):
        self.table = Path(config.table)
        if not self.table.is_file():
            raise OccframeError(f"there is no table at {self.table}", remedy="check `table`")
        with open(self.table, newline="") as file:
            rows = list(csv.DictReader(file))
        self.ids = [row["path"] for row in rows]
        self.subjects = [row["identity"] for row in rows]
        self.attributes = {}  # further columns by name, arrays of length N
        self.blocks = [range(len(rows))]  # rows that are cheap to read together

    def read(self, rows):
        """Encoded pictures, or arrays [H, W, 3] uint8 RGB, in the order of ``rows``. Several threads call this."""
        return [(self.table.parent / self.ids[row]).read_bytes() for row in rows]

    def fingerprint(self):
        """Changes with the data, and is cheap: a run asks for it every time."""
        return hashlib.sha256(self.table.read_bytes()).hexdigest()[:32]
