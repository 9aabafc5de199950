"""Indexes of a gallery: built from its parts, kept in ``index/<name>/`` beside them, disposable.

```
index/faiss-fp16/
  index.json             an IndexRecord; publishing it is what makes an index
  build-5f0c2a91d3e7/    the matcher's own files
```
A record says which rows the index was built from, by content, so that one which does not fit is recognised.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints, ValidationError

from occframe.component import BuildContext, Config, MatcherBlock
from occframe.errors import OccframeError, first_line
from occframe.gallery.garbage import INDEX_HEADER, INDEXES
from occframe.gallery.manifest import Part
from occframe.gallery.part_file import unpublished
from occframe.gallery.prefetch import prefetch
from occframe.gallery.snapshot import Snapshot
from occframe.gallery.store import Gallery
from occframe.standalone import parse_block
from occframe.storage import exists, filesystem, join, make_dirs, read_bytes, write_json
from occframe.types import Matcher

#: Beyond this share of added and deleted rows an index is extended: what is beside it costs every search.
MOST_BESIDE = 0.02
#: Beyond this share of rows that it was not trained on, a trained index is built anew.
MOST_UNSEEN = 1.0

IndexName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Advance = Callable[[int], None]


class Measured(Config):
    """What ``index --measure`` found: recall against exact search, latencies of single queries, in batches of 256."""

    k: int
    queries: int
    recall: float
    p50_ms: float
    p99_ms: float
    queries_per_s: float


class IndexDetails(Config):
    """matcher: its block. library: what wrote the files. trained_on: rows of the gallery when it was trained."""

    snapshot: Snapshot
    matcher: dict[str, Any]
    library: str | None
    trained_on: int = Field(ge=0)
    measured: Measured | None = None


class IndexRecord(Config):
    format: Literal["occframe-gallery-index"] = "occframe-gallery-index"
    version: Literal[1] = 1
    # A record may come from a stranger: the name of a folder beside it, never a path.
    folder: str = Field(pattern=r"^build-[0-9a-f]+$")
    details: IndexDetails


@dataclass(frozen=True)
class Share:
    """Rows ``first`` to ``stop`` - 1 of what a gallery held, in the order of ``snapshot``."""

    snapshot: Snapshot
    first: int
    stop: int

    @classmethod
    def whole(cls, gallery: Gallery) -> Share:
        return cls(gallery.snapshot, 0, gallery.count)

    def __len__(self) -> int:
        return self.stop - self.first

    def rows(self, gallery: Gallery) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """Ids (large_string) and vectors [n, D], a row group at a time."""
        stop = 0
        for part in self.snapshot.parts:
            start, stop = stop, stop + part.count
            if stop <= self.first or start >= self.stop:
                continue
            for ids, vectors in live_rows(gallery, [part]):
                mine = slice(max(0, self.first - start), max(0, self.stop - start))
                if len(vectors[mine]):
                    yield ids[mine], vectors[mine]
                start += len(vectors)
                if start >= self.stop:
                    return


@dataclass(frozen=True)
class Lag:
    """How far an index is behind its gallery. added, deleted: rows it lacks, and rows it must not find."""

    added: int
    deleted: int
    covered: int

    @property
    def share(self) -> float:
        return (self.added + self.deleted) / max(1, self.covered)


def index_name(block: MatcherBlock) -> str:
    """``faiss-fp16``: the matcher and its profile, where it has profiles."""
    return "-".join([block.use.rpartition(":")[2], *filter(None, [getattr(block.config, "profile", None)])])


def index_names(url: str) -> list[str]:
    """Of the indexes that the gallery at ``url`` has, ascending."""
    fs, path = filesystem(join(url, INDEXES))
    try:
        fs.invalidate_cache(path)
        folders = [entry["name"].rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=True)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in folders if exists(join(url, INDEXES, name, INDEX_HEADER)))


def read_record(url: str, name: str) -> IndexRecord:
    """Raises OccframeError: there is no such index, or its record is not one we can read."""
    where = join(url, INDEXES, name, INDEX_HEADER)
    try:
        return IndexRecord.model_validate(json.loads(read_bytes(where)))
    except FileNotFoundError as error:
        there = ", ".join(index_names(url)) or "none"
        raise OccframeError(
            f"the gallery {url} has no index `{name}`; there are: {there}", remedy=f"`occframe gallery index {url}`"
        ) from error
    except (ValidationError, ValueError) as error:
        raise OccframeError(
            f"{where} is no record of an index this occframe reads: {first_line(error)}",
            remedy=f"`occframe gallery index {url} --rebuild`",
        ) from error


def lag(gallery: Gallery, record: IndexRecord) -> Lag | None:
    """None where the index was built from other contents or of another model: it has to be built anew."""
    changes = gallery.changes_since(record.details.snapshot)
    if changes is None:
        return None
    return Lag(changes.added_count, len(changes.deleted), record.details.snapshot.count)


def verdict(
    gallery: Gallery, record: IndexRecord, most_beside: float = MOST_BESIDE
) -> Literal["keep", "extend", "rebuild"]:
    """What is to be done with an index: nothing while little is beside it, for that is searched exactly."""
    behind = lag(gallery, record)
    if behind is None or gallery.count > (1 + MOST_UNSEEN) * record.details.trained_on:
        return "rebuild"
    return "extend" if behind.share > most_beside else "keep"


def live_rows(gallery: Gallery, parts: Sequence[Part]) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Ids (large_string) and vectors [n, D] of the rows of ``parts`` that are not deleted, a row group at a time."""
    for part in parts:
        ids, first = gallery.read_ids([part]), 0
        for vectors in gallery.iter_vectors([part]):
            yield ids.slice(first, len(vectors)), vectors
            first += len(vectors)


def fill(matcher: Matcher, rows: Iterator[tuple[pa.Array, np.ndarray]], advance: Advance = lambda rows: None) -> None:
    """Add rows of a gallery to the matcher."""
    known: Callable[[pa.Array, np.ndarray], None] | None = getattr(matcher, "add_known", None)
    for ids, vectors in prefetch(rows):
        if known is not None:
            known(ids, vectors)
        else:
            matcher.add(ids.to_pylist(), vectors)
        advance(len(vectors))


def build_matcher(
    gallery: Gallery,
    block: MatcherBlock,
    build: BuildContext,
    advance: Advance = lambda rows: None,
    *,
    share: Share | None = None,
) -> Matcher:
    """A matcher that holds the whole gallery, in the order of ``gallery.snapshot``, or a share; nothing is written.

    One that is trained sees a sample drawn over all its rows with ``build.seed``.
    """
    matcher: Matcher = build.build(block, embedding_dim=gallery.dim)
    share = share or Share.whole(gallery)
    reader, first, count = gallery.open_rows(share.snapshot), share.first, len(share)

    def sample(wanted: int) -> np.ndarray:
        drawn = np.random.default_rng(build.seed).choice(count, min(wanted, count), replace=False)
        return reader.take(first + np.sort(drawn))

    if (prepare := getattr(matcher, "prepare", None)) is not None:
        prepare(count, gallery.dim, sample)
    fill(matcher, share.rows(gallery), advance)
    rerank_from(matcher, gallery, share)
    return matcher


def rerank_from(matcher: Matcher, gallery: Gallery, share: Share) -> None:
    """Give a matcher that keeps less than the embeddings a way to the exact ones."""
    if (attach := getattr(matcher, "rerank_from", None)) is not None:
        reader, first = gallery.open_rows(share.snapshot), share.first
        attach(lambda rows: reader.take(first + rows))


def build_index(
    gallery: Gallery,
    block: MatcherBlock,
    build: BuildContext,
    *,
    name: str | None = None,
    advance: Advance = lambda rows: None,
) -> IndexRecord:
    """Build an index of everything in the gallery and publish it in place of the one of that name."""
    matcher = build_matcher(gallery, block, build, advance)
    return publish_index(gallery, matcher, block, name=name or index_name(block), trained_on=gallery.count)


def extend_index(
    gallery: Gallery, name: str, build: BuildContext, *, advance: Advance = lambda rows: None
) -> IndexRecord:
    """Add what the index lacks and take out what it must not find. Raises OccframeError where it has to be rebuilt."""
    record = read_record(gallery.url, name)
    changes = gallery.changes_since(record.details.snapshot)
    if changes is None:
        raise OccframeError(
            f"the index `{name}` of {gallery.url} was built from other contents",
            remedy=f"`occframe gallery index {gallery.url} --rebuild`",
        )
    block, matcher = load_index(gallery, name, record, build)
    if len(changes.deleted):
        matcher.remove(ids_of_rows(gallery, record.details.snapshot, changes.deleted))
    fill(matcher, live_rows(gallery, changes.added), advance)
    return publish_index(gallery, matcher, block, name=name, trained_on=record.details.trained_on)


def load_index(gallery: Gallery, name: str, record: IndexRecord, build: BuildContext) -> tuple[MatcherBlock, Matcher]:
    """The matcher as it was saved: without what the gallery became since.

    Raises OccframeError where it was written by another version of its library, or is damaged.
    """
    block = parse_block(MatcherBlock, record.details.matcher, build)
    matcher: Matcher = build.build(block, embedding_dim=gallery.dim)
    library = getattr(matcher, "library", None)
    if library != record.details.library:
        raise OccframeError(
            f"the index `{name}` of {gallery.url} was written by {record.details.library}, this is {library}",
            remedy=f"`occframe gallery index {gallery.url} --rebuild`: its embeddings are all in the gallery",
        )
    matcher.load(join(gallery.url, INDEXES, name, record.folder))
    rerank_from(matcher, gallery, Share(record.details.snapshot, 0, record.details.snapshot.count))
    return block, matcher


def ids_of_rows(gallery: Gallery, snapshot: Snapshot, rows: np.ndarray) -> list[str]:
    """Ids of rows of an index, deleted since or not. rows: int64, ascending."""
    ids: list[str] = []
    ends = np.cumsum([part.count for part in snapshot.parts])
    for part, end in zip(snapshot.parts, ends.tolist(), strict=True):
        low, high = np.searchsorted(rows, [end - part.count, end])
        if high > low:  # the part as it was then: rows deleted since are still in its file
            ids += gallery.read_ids([part]).take(pa.array(rows[low:high] - (end - part.count))).to_pylist()
    return ids


def publish_index(
    gallery: Gallery, matcher: Matcher, block: MatcherBlock, *, name: str, trained_on: int
) -> IndexRecord:
    """Save a matcher that holds the rows of ``gallery``, and publish it under ``name``.

    A kill leaves the old index or the new one. Raises OccframeError where the gallery was compacted meanwhile.
    """
    home = join(gallery.url, INDEXES, name)
    folder = f"build-{uuid.uuid4().hex[:12]}"
    record = IndexRecord(
        folder=folder,
        details=IndexDetails(
            snapshot=gallery.snapshot,
            matcher=block.model_dump(mode="json"),
            library=getattr(matcher, "library", None),
            trained_on=trained_on,
        ),
    )
    with unpublished(gallery.url):
        make_dirs(join(home, folder))
        matcher.save(join(home, folder))
        write_record(gallery.url, name, record)
    for other in _builds(home):
        if other != folder:
            remove_folder(join(home, other))
    # Compacting removes indexes of what it rewrote, but cannot know of one that is being written.
    if Gallery.open(gallery.url).changes_since(gallery.snapshot) is None:
        drop_index(gallery.url, name)
        raise OccframeError(
            f"the gallery {gallery.url} was compacted while its index `{name}` was built",
            remedy="build it again; nothing of it was kept",
        )
    return record


def write_record(url: str, name: str, record: IndexRecord) -> None:
    write_json(join(url, INDEXES, name, INDEX_HEADER), record.model_dump(mode="json"))


def drop_index(url: str, name: str) -> None:
    """Remove an index and every file of it."""
    remove_folder(join(url, INDEXES, name))


def _builds(home: str) -> list[str]:
    fs, path = filesystem(home)
    fs.invalidate_cache(path)
    names = (entry["name"].rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=True))
    return [name for name in names if name.startswith("build-")]


def remove_folder(url: str) -> None:
    fs, path = filesystem(url)
    with suppress(FileNotFoundError):
        fs.rm(path, recursive=True)
