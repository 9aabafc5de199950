"""Named parts of a data set, by identity and by image, drawn with a seed.

    train:   {identities: 28}            # 28 identities, drawn with the seed
    test:    {identities: rest}          # everyone else
    gallery: {of: test, images: 5}       # five images of each of them
    probe:   {of: test, images: rest}    # their other images

What is drawn depends on the names of identities and the ids of images, not on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, StrictFloat, StrictInt, model_validator

from occframe.component import Config
from occframe.errors import OccframeError
from occframe.random import derive_seed, id_seeds, mix

if TYPE_CHECKING:
    import numpy as np

    from occframe.types import Dataset

#: A count, a share of the whole, or what the other parts leave.
Amount: TypeAlias = Annotated[StrictInt, Field(ge=1)] | Annotated[StrictFloat, Field(gt=0, le=1)] | Literal["rest"]
#: Rows by identity, both in the order in which they are handed out.
_People: TypeAlias = Mapping[str, Sequence[int]]


class SplitPart(Config):
    """One part: either ``identities``, or ``images`` of each identity ``of`` another part."""

    identities: Amount | None = Field(
        None, description="how many identities: a count (28), a share of all (0.7), or `rest`; parts never share one"
    )
    of: str | None = Field(None, description="the part whose images are divided")
    images: Amount | None = Field(
        None, description="how many images of each identity `of` that part: a count, a share, or `rest`"
    )
    min_images: int = Field(1, ge=1, description="leave out identities with fewer images than this")

    @model_validator(mode="after")
    def _one_kind_or_the_other(self) -> Self:
        if (self.identities is None) == (self.of is None) or (self.of is None) != (self.images is None):
            raise ValueError("a part is written `identities: N`, or `of: PART` with `images: N`")
        return self

    @property
    def amount(self) -> int | float | str:
        amount = self.identities if self.images is None else self.images
        assert amount is not None  # the validator saw to it
        return amount


def part_problems(parts: Mapping[str, SplitPart]) -> Iterator[tuple[str, str]]:
    """(part, what is wrong with it): everything that can be said without the data."""
    for name, part in parts.items():
        if part.of is not None and part.of not in parts:
            near = get_close_matches(part.of, parts, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"parts: {', '.join(parts)}"
            yield name, f"`of: {part.of}` names no part; {hint}"
        elif name in (ancestors := _ancestors(parts, name)):
            yield name, f"`of` leads in a circle: {' -> '.join([name, *ancestors])}"
    for siblings in _families(parts).values():
        takers = [name for name in siblings if parts[name].amount == "rest"]
        yield from ((name, f"`rest` is taken by `{takers[0]}` already") for name in takers[1:])
        shares = sum(amount for name in siblings if isinstance(amount := parts[name].amount, float))
        if shares > 1 + 1e-9:
            yield siblings[-1], f"the shares of {', '.join(siblings)} add up to {shares:g}, more than the whole"


def split_rows(
    subjects: Sequence[str], ids: Sequence[str], parts: Mapping[str, SplitPart], seed: int
) -> dict[str, np.ndarray]:
    """The rows of every part, ascending. Returns int64 arrays by part name.

    subjects, ids: of each row. Raises OccframeError where the parts ask for more than there is, or one comes out empty.
    """
    import numpy as np

    for name, problem in part_problems(parts):
        raise OccframeError(f"split `{name}`: {problem}", remedy="correct the `splits` of this data set")
    families = _families(parts)
    found = _divide_identities(_everyone(subjects, ids, seed), {name: parts[name] for name in families.get(None, ())})
    unfolded = list(found)
    for name in unfolded:
        children = {child: parts[child] for child in families.get(name, ())}
        found |= _divide_images(found[name], children, name)
        unfolded += children
    for name, people in found.items():
        if not any(people.values()):
            what = "identities" if parts[name].of is None else "images"
            raise OccframeError(
                f"split `{name}` is empty: the other parts leave it no {what}",
                remedy="take less for the other parts, or remove it",
            )
    return {name: np.sort([row for rows in found[name].values() for row in rows]).astype(np.int64) for name in parts}


def apply_split(dataset: Dataset, parts: Mapping[str, SplitPart], name: str, seed: int) -> Dataset:
    """One part of a data set. Raises OccframeError for a part that is not declared, and as ``split_rows`` does."""
    from occframe.data.subset import Subset

    if name not in parts:
        near = get_close_matches(name, parts, n=1)
        known = f"did you mean `{near[0]}`?" if near else f"splits: {', '.join(parts) or 'none'}"
        raise OccframeError(f"the data set has no split `{name}`", remedy=known)
    return Subset(dataset, split_rows(dataset.subjects, dataset.ids, parts, seed)[name])


def _ancestors(parts: Mapping[str, SplitPart], name: str) -> list[str]:
    """What ``of`` leads to, up to the first part met twice."""
    met: list[str] = []
    parent = parts[name].of
    while parent is not None and parent in parts and parent not in met:
        met.append(parent)
        parent = parts[parent].of
    return met


def _families(parts: Mapping[str, SplitPart]) -> dict[str | None, list[str]]:
    """Names of the parts that divide the same thing: the whole data set (None) or a part."""
    families: dict[str | None, list[str]] = {}
    for name, part in parts.items():
        families.setdefault(part.of, []).append(name)
    return families


def _everyone(subjects: Sequence[str], ids: Sequence[str], seed: int) -> _People:
    rows_of: dict[str, list[int]] = {}
    for row in _shuffled(ids, derive_seed(seed, "images")):
        rows_of.setdefault(subjects[row], []).append(row)
    names = sorted(rows_of)
    return {names[at]: rows_of[names[at]] for at in _shuffled(names, derive_seed(seed, "identities"))}


def _shuffled(names: Iterable[str], seed: int) -> list[int]:
    """Positions by a hash of each name: adding a name leaves the others in their order."""
    import numpy as np

    order: list[int] = np.argsort(mix(seed, 0, id_seeds(names)), kind="stable").tolist()
    return order


def _divide_identities(everyone: _People, family: Mapping[str, SplitPart]) -> dict[str, _People]:
    taken: dict[str, _People] = {}
    free = dict(everyone)
    for name in _rest_last(family):
        part = family[name]
        candidates = [person for person, rows in free.items() if len(rows) >= part.min_images]
        eligible = sum(len(rows) >= part.min_images for rows in everyone.values())
        wanted = _count(family, name, whole=eligible, left=len(candidates))
        if wanted > len(candidates):
            enough = f" with {part.min_images} images or more" if part.min_images > 1 else ""
            raise OccframeError(
                f"split `{name}` asks for {wanted} identities{enough}; "
                f"{len(candidates)} of {len(everyone)} are left for it",
                remedy="ask for fewer, or write `identities: rest`",
            )
        taken[name] = {person: free.pop(person) for person in candidates[:wanted]}
    return taken


def _divide_images(parent: _People, family: Mapping[str, SplitPart], parent_name: str) -> dict[str, _People]:
    taken: dict[str, dict[str, Sequence[int]]] = {name: {} for name in family}
    for person, rows in parent.items():
        left = rows
        for name in _rest_last(family):
            if len(rows) < family[name].min_images:
                continue
            wanted = _count(family, name, whole=len(rows), left=len(left))
            if wanted > len(left):
                raise OccframeError(
                    f"split `{name}` takes {wanted} images of each identity; "
                    f"{person} has {len(left)} left of {len(rows)}",
                    remedy=f"write `min_images` beside `{parent_name}` to leave such identities out, or take fewer",
                )
            taken[name][person], left = left[:wanted], left[wanted:]
    return dict(taken)


def _rest_last(family: Mapping[str, SplitPart]) -> list[str]:
    return sorted(family, key=lambda name: family[name].amount == "rest")


def _count(family: Mapping[str, SplitPart], name: str, *, whole: int, left: int) -> int:
    amount = family[name].amount
    if isinstance(amount, str):
        return left
    if isinstance(amount, int):
        return amount
    # Shares lie end to end, so that what rounding takes from one part the next one gets.
    before = 0.0
    for other in family:
        if other == name:
            break
        before += share if isinstance(share := family[other].amount, float) else 0.0
    return round((before + amount) * whole) - round(before * whole)
