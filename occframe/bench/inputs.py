"""What the figures of a suite were computed from, by content: two machines agree on it, and a change shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from occframe.bench.suite import SuiteConfig
from occframe.component import FileRef, walk
from occframe.errors import OccframeError
from occframe.storage import filesystem, join, read_json
from occframe.types import Dataset
from occframe.weights import locate_weights

_CHUNK = 1024


def inputs_of(
    suite: SuiteConfig, dataset: Callable[[str], Dataset], earlier: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """By ``data.NAME``, ``systems.NAME`` and ``trials.NAME``: digests of pictures and labels, weights and pair files.

    dataset: opens a data set of the suite by name. earlier: a result of this run directory; a data set that still has
    the fingerprint noted there is not read again.
    """
    fingerprints, known = (earlier or {}).get("data", {}), (earlier or {}).get("inputs", {})
    found = {}
    for name in suite.data:
        faces, key = dataset(name), f"data.{name}"
        same = key in known and fingerprints.get(name) == faces.fingerprint()
        found[key] = known[key] if same else content_digest(faces)
    for name, system in suite.systems.items():
        found[f"systems.{name}"] = _digest(_of_system(system))
    for name, trial in suite.trials.items():
        found[f"trials.{name}"] = _digest(_files(trial.protocol))
    return found


def content_digest(faces: Dataset) -> str:
    """Of ids, identities and pictures, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(faces.ids), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(faces.ids)))
        for row, picture in zip(rows, faces.read(rows), strict=True):
            data = picture if isinstance(picture, bytes) else np.ascontiguousarray(picture).tobytes()
            head = f"{len(faces.ids[row])}:{faces.ids[row]}{len(faces.subjects[row])}:{faces.subjects[row]}{len(data)}:"
            digest.update(head.encode("utf-8", "surrogatepass"))
            digest.update(data)
    return digest.hexdigest()


def _of_system(system: Any) -> Iterator[str]:
    if system.model is not None:
        yield str(read_json(join(system.model, "model.json"))["fingerprint"])
    for name, url in sorted(system.galleries.items()):
        from occframe.gallery import Gallery

        yield f"{name} {Gallery.open(url).content_hash}"
    yield from _files(system)


def _files(block: Any) -> Iterator[str]:
    for item in walk(block):
        if isinstance(item, FileRef):
            yield _file_digest(locate_weights(item))


def _file_digest(url: str) -> str:
    fs, path = filesystem(url)
    if fs.isdir(path):
        return _digest(_file_digest(join(url, name.rpartition("/")[2])) for name in sorted(fs.ls(path, detail=False)))
    digest = hashlib.sha256()
    try:
        with fs.open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise OccframeError(f"cannot read {url}: {error}", remedy="check the path") from error
    return digest.hexdigest()


def _digest(parts: Any) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
