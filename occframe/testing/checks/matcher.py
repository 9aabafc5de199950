"""What a matcher promises: see ``occframe.types.Matcher``."""

from __future__ import annotations

from typing import Any

import numpy as np

from occframe.errors import OccframeError
from occframe.testing.check import CheckFailed, check, require
from occframe.testing.samples import brute_force, unit_vectors
from occframe.testing.subject import Subject
from occframe.types import Hits

DIM = 16
ROWS, QUERIES, K = 300, 20, 7
#: float32 sums of 16 products in any order.
TOLERANCE = 4e-6


def _ids(count: int, prefix: str = "p") -> list[str]:
    # Numbers that do not sort as the rows do.
    return [f"{prefix}{(row * 7919) % 10007:05}" for row in range(count)]


def _filled(subject: Subject, count: int = ROWS, **known: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A matcher with ``count`` vectors, and these by id."""
    vectors = unit_vectors(count)
    matcher = subject.build(**known)
    matcher.add(_ids(count), vectors)
    return matcher, dict(zip(_ids(count), vectors, strict=True))


def _search(matcher: Any, queries: np.ndarray, k: int) -> Hits:
    found = matcher.search(queries, k)
    require(isinstance(found, Hits), f"search returned {type(found).__name__}, not Hits")
    for name, values in {"scores": found.scores, "ids": found.ids}.items():
        require(values.shape == (len(queries), k), f"{name} have the shape {values.shape}, not {(len(queries), k)}")
    require(found.scores.dtype == np.float32, f"scores are {found.scores.dtype}, not float32")
    require(found.ids.dtype == object, f"ids are an array of {found.ids.dtype}, not of str (object)")
    return found  # type: ignore[no-any-return]


def _compare(matcher: Any, found: Hits, gallery: dict[str, np.ndarray], queries: np.ndarray, what: str) -> None:
    """Against brute force: exactly, or by the recall that the matcher declares."""
    expected = brute_force(gallery, queries, found.ids.shape[1])
    declared = getattr(matcher, "declared_recall", None)
    met = [len(set(one) & set(other) - {""}) for one, other in zip(found.ids, expected.ids, strict=True)]
    recall = sum(met) / max(sum(len(set(row) - {""}) for row in expected.ids), 1)
    if declared is not None:
        require(recall >= declared, f"{what}: recall is {recall:.3f}, it declares {declared}")
        return
    require(recall == 1, f"{what}: it finds {recall:.1%} of the nearest (declare `declared_recall` if it approximates)")
    known = np.isfinite(expected.scores)
    off = np.abs(found.scores[known] - expected.scores[known]).max(initial=0)
    require(off <= TOLERANCE, f"{what}: scores are off by {off:.2g}")


@check()
def finds_what_brute_force_finds(subject: Subject) -> None:
    """The nearest by cosine, all of them, or as many as ``declared_recall`` says; scores are cosines."""
    matcher, gallery = _filled(subject)
    queries = unit_vectors(QUERIES, seed=1)
    require(len(matcher) == ROWS, f"its length is {len(matcher)} after {ROWS} rows")
    _compare(matcher, _search(matcher, queries, K), gallery, queries, "search")


@check()
def scores_descend(subject: Subject) -> None:
    """The best hit comes first."""
    matcher, _ = _filled(subject)
    scores = _search(matcher, unit_vectors(QUERIES, seed=1), K).scores
    require(bool((scores[:, 1:] <= scores[:, :-1]).all()), "scores rise along a row")


@check()
def ties_are_ordered_by_id(subject: Subject) -> None:
    """Of equal scores, the smaller id comes first."""
    vectors = np.repeat(unit_vectors(3), 4, axis=0)
    matcher = subject.build()
    matcher.add(_ids(12), vectors)
    found = _search(matcher, unit_vectors(3), 4)
    for row in range(3):
        wanted = sorted(_ids(12)[4 * row : 4 * row + 4])
        require(found.ids[row].tolist() == wanted, f"{found.ids[row].tolist()} of equal scores, not {wanted}")


@check()
def k_may_exceed_the_rows(subject: Subject) -> None:
    """Places that no row fills have the score -inf and the id ""."""
    matcher, gallery = _filled(subject, 3)
    queries = unit_vectors(2, seed=1)
    found = _search(matcher, queries, 10)
    require(bool(np.isneginf(found.scores[:, 3:]).all()), f"scores beyond the rows are {found.scores[0, 3:].tolist()}")
    require(
        all(name == "" for name in found.ids[:, 3:].ravel()), f"ids beyond the rows are {found.ids[0, 3:].tolist()}"
    )
    _compare(matcher, found, gallery, queries, "k > n")


@check()
def empty_is_empty(subject: Subject) -> None:
    """A matcher without rows answers with nothing, and no queries get no answers."""
    matcher = subject.build()
    require(len(matcher) == 0, f"its length is {len(matcher)} before any row")
    found = _search(matcher, unit_vectors(2, DIM), 3)
    require(bool(np.isneginf(found.scores).all()) and not any(found.ids.ravel()), "an empty matcher found something")
    matcher, _ = _filled(subject, 5)
    _search(matcher, np.empty((0, DIM), np.float32), 3)


@check()
def float16_is_taken(subject: Subject) -> None:
    """float16 vectors and queries are the float32 ones they came from."""
    vectors, queries = unit_vectors(ROWS), unit_vectors(QUERIES, seed=1)
    matcher = subject.build()
    matcher.add(_ids(ROWS), vectors.astype(np.float16))
    found = _search(matcher, queries.astype(np.float16), K)
    _compare(matcher, found, dict(zip(_ids(ROWS), vectors, strict=True)), queries, "float16")


@check()
def company_changes_nothing(subject: Subject) -> None:
    """A query is answered alone as in a batch."""
    matcher, _ = _filled(subject)
    queries = unit_vectors(QUERIES, seed=1)
    whole = _search(matcher, queries, K)
    for row in (0, QUERIES - 1):
        alone = _search(matcher, queries[row : row + 1], K)
        same = alone.ids[0].tolist() == whole.ids[row].tolist()
        require(same, f"query {row} alone finds {alone.ids[0].tolist()}, in a batch {whole.ids[row].tolist()}")


@check()
def input_is_untouched(subject: Subject) -> None:
    """Vectors and queries are not changed, and changing them afterwards changes nothing."""
    vectors, queries = unit_vectors(ROWS), unit_vectors(QUERIES, seed=1)
    kept, asked = vectors.copy(), queries.copy()
    matcher = subject.build()
    matcher.add(_ids(ROWS), vectors)
    _search(matcher, queries, K)
    require(np.array_equal(vectors, kept) and np.array_equal(queries, asked), "vectors or queries were changed")
    vectors[:] = 0
    found = _search(matcher, queries, K)
    _compare(matcher, found, dict(zip(_ids(ROWS), kept, strict=True)), queries, "after the caller's array changed")


@check(needs="incremental")
def adding_is_visible_at_once(subject: Subject) -> None:
    """Rows added later are found by the next search."""
    matcher, gallery = _filled(subject, 200)
    more = unit_vectors(100, seed=3)
    matcher.search(more[:1], 1)
    names = _ids(100, "later-")
    matcher.add(names, more)
    require(len(matcher) == 300, f"its length is {len(matcher)} after 200 and 100 rows")
    _compare(
        matcher, _search(matcher, more, K), gallery | dict(zip(names, more, strict=True)), more, "rows added later"
    )


@check(needs="incremental")
def a_taken_id_is_refused(subject: Subject) -> None:
    """An id that is there already, or twice in one call, is an OccframeError, and nothing is added."""
    for names in (["new", _ids(1)[0]], ["same", "same"]):
        matcher, _ = _filled(subject, 10)
        _refused(lambda: matcher.add(names, unit_vectors(2, seed=4)), f"adding the ids {names}")  # noqa: B023
        require(len(matcher) == 10, f"its length is {len(matcher)} after a refused addition to 10 rows")


@check(needs="delete")
def removing_is_visible_at_once(subject: Subject) -> None:
    """Removed ids are not found again, few of them or most; a removed id may come back."""
    matcher, gallery = _filled(subject)
    names = _ids(ROWS)
    for gone in (names[:5], names[5:200]):
        matcher.remove(gone)
        for name in gone:
            del gallery[name]
        require(len(matcher) == len(gallery), f"its length is {len(matcher)} with {len(gallery)} rows left")
        queries = unit_vectors(QUERIES, seed=1)
        _compare(matcher, _search(matcher, queries, K), gallery, queries, f"after removing {len(gone)}")
    back = unit_vectors(1, seed=9)
    matcher.add(names[:1], back)
    require(_search(matcher, back, 1).ids[0, 0] == names[0], "a removed id that came back is not found")


@check(needs="delete")
def an_unknown_id_is_refused(subject: Subject) -> None:
    """Removing an id that is not there is an OccframeError, and nothing is removed."""
    matcher, _ = _filled(subject, 10)
    _refused(lambda: matcher.remove([_ids(1)[0], "nobody"]), "removing an id that is not there")
    require(len(matcher) == 10, f"its length is {len(matcher)} after a refused removal from 10 rows")


@check()
def bad_rows_are_refused(subject: Subject) -> None:
    """NaN, another dimension, or another number of ids is an OccframeError, and nothing is added."""
    matcher, _ = _filled(subject, 10)
    broken = unit_vectors(2, seed=4)
    broken[1, 3] = np.nan
    for what, names, rows in (
        ("a row with NaN", ["x", "y"], broken),
        ("rows of another dimension", ["x", "y"], unit_vectors(2, DIM + 1)),
        ("fewer ids than rows", ["x"], unit_vectors(2, seed=4)),
    ):
        _refused(lambda: matcher.add(names, rows), what)  # noqa: B023
        require(len(matcher) == 10, f"its length is {len(matcher)} after {what} came to 10 rows")


@check()
def save_and_load_keep_everything(subject: Subject) -> None:
    """A saved index, loaded over another one, answers as before; on disk and on another file system."""
    matcher, _ = _filled(subject)
    queries = unit_vectors(QUERIES, seed=1)
    expected = _search(matcher, queries, K)
    folder = subject.folder()
    for url in (str(folder / "index"), f"memory://{folder.name}/index"):
        matcher.save(url)
        other = subject.build()
        other.add(["something else"], unit_vectors(1, seed=5))
        other.load(url)
        require(len(other) == ROWS, f"{len(other)} of {ROWS} rows came back from {url}")
        found = _search(other, queries, K)
        require(found.ids.tolist() == expected.ids.tolist(), f"the index from {url} finds others")
        same = np.allclose(found.scores, expected.scores, rtol=0, atol=TOLERANCE)
        require(same, f"the index from {url} scores otherwise")


@check()
def a_reopened_index_goes_on(subject: Subject) -> None:
    """What was loaded can be saved again, and is still whole; an empty one too."""
    matcher, gallery = _filled(subject, 50)
    first, second = str(subject.folder()), str(subject.folder())
    matcher.save(first)
    opened = subject.build()
    opened.load(first)
    opened.save(second)
    again = subject.build()
    again.load(second)
    queries = unit_vectors(5, seed=1)
    _compare(again, _search(again, queries, 3), gallery, queries, "saved, loaded, saved and loaded")
    empty = str(subject.folder())
    subject.build().save(empty)
    opened.load(empty)
    require(len(opened) == 0, f"an empty index came back with {len(opened)} rows")


@check()
def a_missing_index_is_an_error(subject: Subject) -> None:
    """Loading what is not there is an OccframeError, and what was there stays."""
    matcher, _ = _filled(subject, 10)
    _refused(lambda: matcher.load(str(subject.folder() / "nothing")), "loading an index that is not there")
    require(len(matcher) == 10, f"its length is {len(matcher)} after a failed load over 10 rows")


@check(needs="gpu", cuda=True)
def gpu_equals_cpu(subject: Subject) -> None:
    """On CUDA it finds what it finds on the CPU, and opens what the CPU saved."""
    here, gallery = _filled(subject)
    there, _ = _filled(subject, device="cuda")
    queries = unit_vectors(QUERIES, seed=1)
    _compare(there, _search(there, queries, K), gallery, queries, "on CUDA")
    url = str(subject.folder())
    here.save(url)
    there.load(url)
    _compare(there, _search(there, queries, K), gallery, queries, "saved on the CPU, loaded on CUDA")


def _refused(attempt: Any, what: str) -> None:
    try:
        attempt()
    except OccframeError:
        return
    except Exception as error:
        raise CheckFailed(f"{what} raises {type(error).__name__}, not an OccframeError: {error}") from error
    raise CheckFailed(f"{what} is taken without a word")
