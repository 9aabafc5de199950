"""Pictures that could not be read: which, why, and how many are too many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock

from occframe.data.headers import BadImage
from occframe.errors import OccframeError
from occframe.storage import join, write_bytes


class Quarantine:
    """Collects bad images by id; the same id counts once, however many epochs meet it. Thread-safe.

    share: how many of a data set's images may be bad (0..1) before ``check`` stops the work: a few are life, many are
    a wrong folder or a broken disk.
    """

    def __init__(self, share: float = 0.1) -> None:
        self.share = share
        self._found: dict[str, BadImage] = {}
        self._lock = Lock()

    def add(self, id: str, error: BadImage) -> None:
        with self._lock:
            self._found.setdefault(id, error)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def found(self) -> Mapping[str, BadImage]:
        """What is wrong with each, by id."""
        with self._lock:
            return dict(self._found)

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many images by reason, most frequent first."""
        with self._lock:
            return dict(Counter(error.reason for error in self._found.values()).most_common())

    def summary(self) -> str:
        """One line for a note, "" where nothing is wrong: "3 images left out: 2 truncated JPEG, 1 empty file"."""
        if not self:
            return ""
        count = "1 image" if len(self) == 1 else f"{len(self)} images"
        return f"{count} left out: {', '.join(f'{number} {reason}' for reason, number in self.reasons.items())}"

    def check(self, total: int) -> None:
        """Raise OccframeError where more than ``share`` of ``total`` images are bad already."""
        if len(self) <= self.share * total:
            return
        first = next(iter(self._found))
        raise OccframeError(
            f"{len(self)} of {total} images cannot be read, more than {self.share:.0%}: {self.summary()}; "
            f"the first is {first}: {self._found[first].message}",
            remedy="repair or remove them, or check that the data set is what it should be",
        )

    def tell(self, note: Callable[[str], None], folder: str) -> None:
        """At a step's end: the summary as a note, and each in ``folder``/quarantine.jsonl, which is written always."""
        if summary := self.summary():
            note(summary)
        self.write(join(folder, "quarantine.jsonl"))

    def write(self, url: str) -> None:
        """JSON lines {"id", "reason", "detail"}, by id, on any fsspec URL."""
        with self._lock:
            found = sorted(self._found.items())
        lines = [{"id": id, "reason": error.reason, "detail": error.detail} for id, error in found]
        write_bytes(url, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
