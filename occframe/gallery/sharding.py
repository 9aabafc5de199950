"""An index in shares: workers build, hold and search one each, or a few, and the best of all shares are the best.

For a matcher that is exact the result is that of one index of all rows, id by id and bit by bit: a row has the same
score in any company, and of equal scores at the last place the first ids are taken, see ``GallerySearcher``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from typing import Any

import numpy as np

from occframe.component import BuildContext, MatcherBlock
from occframe.gallery.indexing import Share, build_matcher, remove_folder, rerank_from
from occframe.gallery.manifest import MANIFEST
from occframe.gallery.matching import merge_hits
from occframe.gallery.snapshot import Snapshot
from occframe.gallery.store import Gallery
from occframe.storage import exists, join
from occframe.types import Crew, Engine, Hits, Matcher

_FOLDER = "shares"


def even_edges(count: int, shares: int) -> list[int]:
    """Where shares of ``count`` rows begin that are as large as each other, and where the last one ends."""
    return [count * number // shares for number in range(shares + 1)]


@dataclass(frozen=True)
class ShardedIndex:
    """Where an index in shares lies, and of what it is; can be sent to workers. url: of the index. gallery: its URL.

    ``build`` comes first: classes of inline plugins can be unpickled once its registry is there.
    """

    build: BuildContext
    block: MatcherBlock
    url: str
    gallery: str
    shares: Sequence[Share]

    @classmethod
    def of(
        cls, build: BuildContext, block: MatcherBlock, url: str, gallery: str, snapshot: Snapshot, edges: Sequence[int]
    ) -> ShardedIndex:
        """edges: rows where the shares begin, and where the last one ends."""
        shares = [Share(snapshot, first, stop) for first, stop in pairwise(edges)]
        return cls(build, block, url, gallery, shares)

    def build_all(self, engine: Engine, advance: Callable[[int], None]) -> None:
        """Build and save every share, by the workers of ``engine``."""
        remove_folder(join(self.url, _FOLDER))
        with engine.start([self._builder] * min(engine.workers, len(self.shares))) as crew:
            for rows in crew.map(range(len(self.shares))):
                advance(rows)

    def _builder(self) -> Callable[[int], int]:
        return self.build_share

    def build_share(self, number: int) -> int:
        """Build and save one share. Returns its rows."""
        share = self.shares[number]
        matcher = build_matcher(Gallery.open(self.gallery), self.block, self.build, share=share)
        matcher.save(self._home(number))
        return len(share)

    def searchers(self, workers: int) -> list[Callable[[], Callable[[Any], Any]]]:
        """What loads the shares, dealt out to so many workers at most."""
        numbers = range(len(self.shares))
        return [partial(self._loaded, numbers[first::workers]) for first in numbers[:workers]]

    def _loaded(self, numbers: Sequence[int]) -> Callable[[tuple[np.ndarray, int] | None], Any]:
        return _Holder([self._load_share(number) for number in numbers])

    def _load_share(self, number: int) -> Matcher:
        matcher: Matcher = self.build.build(self.block, embedding_dim=self.shares[number].snapshot.rows_schema.dim)
        matcher.load(self._home(number))
        if exists(join(self.gallery, MANIFEST)):
            rerank_from(matcher, Gallery.open(self.gallery), self.shares[number])
        return matcher

    def _home(self, number: int) -> str:
        return join(self.url, _FOLDER, f"{number:04}")


class _Holder:
    """Answers for its shares: their best hits, or to None how many one search may ask for."""

    def __init__(self, matchers: Sequence[Matcher]) -> None:
        self._matchers = matchers

    def __call__(self, asked: tuple[np.ndarray, int] | None) -> Hits | int | None:
        if asked is None:
            return min((most for matcher in self._matchers if (most := _most_hits(matcher))), default=None)
        queries, k = asked
        return _best([matcher.search(queries, k) for matcher in self._matchers], k)


class ShardedMatcher:
    """The index as the workers of ``crew`` hold it: as much of a ``Matcher`` as searching takes."""

    def __init__(self, crew: Crew, count: int) -> None:
        self._crew, self._count = crew, count
        self.most_hits = min((most for most in crew.ask_all(None) if most), default=None)

    def __len__(self) -> int:
        return self._count

    def search(self, queries: np.ndarray, k: int) -> Hits:
        return _best(self._crew.ask_all((queries, k)), k)


def _most_hits(matcher: Matcher) -> int | None:
    return getattr(matcher, "most_hits", None)


def _best(found: Sequence[Hits], k: int) -> Hits:
    return reduce(lambda left, right: merge_hits(left, right, k), found)
