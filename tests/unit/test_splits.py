from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from occframe.data.splits import SplitPart, apply_split, part_problems, split_rows
from occframe.errors import OccframeError


def parts(**blocks: dict) -> dict[str, SplitPart]:
    return {name: SplitPart(**block) for name, block in blocks.items()}


def people(**images: int) -> tuple[list[str], list[str]]:
    """subjects and ids of so many images of each."""
    rows = [(person, f"{person}/{number}") for person, count in images.items() for number in range(count)]
    return [person for person, _ in rows], [name for _, name in rows]


ORL = people(**{f"s{number}": 10 for number in range(1, 41)})
DOCUMENTED = parts(
    train={"identities": 28},
    test={"identities": "rest"},
    gallery={"of": "test", "images": 5},
    probe={"of": "test", "images": "rest"},
)


def test_the_documented_split():
    rows = split_rows(*ORL, DOCUMENTED, seed=0)
    assert {name: len(chosen) for name, chosen in rows.items()} == {
        "train": 280,
        "test": 120,
        "gallery": 60,
        "probe": 60,
    }
    assert sorted([*rows["train"], *rows["test"]]) == list(range(400))
    assert sorted([*rows["gallery"], *rows["probe"]]) == rows["test"].tolist()
    subjects = np.array(ORL[0])
    assert not set(subjects[rows["train"]]) & set(subjects[rows["test"]])
    assert set(np.unique(subjects[rows["gallery"]], return_counts=True)[1]) == {5}


def test_a_seed_draws_others_and_order_of_rows_does_not_matter():
    subjects, ids = ORL
    drawn = split_rows(subjects, ids, DOCUMENTED, seed=3)
    assert not np.array_equal(drawn["train"], split_rows(subjects, ids, DOCUMENTED, seed=4)["train"])
    order = np.random.default_rng(0).permutation(len(ids))
    moved = split_rows([subjects[at] for at in order], [ids[at] for at in order], DOCUMENTED, seed=3)
    for name, rows in drawn.items():
        assert {ids[row] for row in rows} == {ids[order[row]] for row in moved[name]}


amounts = st.one_of(st.integers(1, 6), st.floats(0.01, 1), st.just("rest"))


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 8), min_size=1, max_size=15),
    st.dictionaries(st.sampled_from("abc"), amounts, min_size=1),
    st.dictionaries(st.sampled_from("xyz"), amounts),
    st.integers(0, 99),
)
def test_parts_of_one_thing_never_overlap_and_stay_inside_it(images, identities, of_a, seed):
    subjects, ids = people(**images)
    declared = {name: SplitPart(identities=amount) for name, amount in identities.items()}
    if "a" in declared:
        declared |= {name: SplitPart(of="a", images=amount) for name, amount in of_a.items()}
    try:
        rows = split_rows(subjects, ids, declared, seed)
    except OccframeError:
        return
    assert set(rows) == set(declared)
    assert all(len(chosen) and np.all(np.diff(chosen) > 0) for chosen in rows.values())
    by_identity = [{subjects[row] for row in rows[name]} for name in identities]
    assert sum(map(len, by_identity)) == len(set().union(*by_identity))
    divided = [row for name in declared if name in "xyz" for row in rows[name]]
    assert len(divided) == len(set(divided))
    assert set(divided) <= set(rows.get("a", ()))
    if "rest" in identities.values():
        assert set().union(*by_identity) == set(subjects)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(5, 60))
def test_shares_that_add_up_to_one_leave_nobody_out(weights, count):
    shares = [weight / sum(weights) for weight in weights]
    declared = {f"p{at}": SplitPart(identities=share) for at, share in enumerate(shares)}
    try:
        rows = split_rows(*people(**{f"s{number}": 2 for number in range(count)}), declared, seed=1)
    except OccframeError as error:
        assert "is empty" in error.message  # noqa: PT017 - some draws round a small share to nobody
        return
    assert sum(map(len, rows.values())) == 2 * count
    for share, chosen in zip(shares, rows.values(), strict=True):
        assert abs(len(chosen) / 2 - share * count) <= 1


def test_min_images_leaves_people_out():
    subjects, ids = people(many=9, some=5, few=2, one=1)
    rows = split_rows(subjects, ids, parts(test={"identities": "rest", "min_images": 5}), 0)
    assert {subjects[row] for row in rows["test"]} == {"many", "some"}
    rows = split_rows(
        subjects,
        ids,
        parts(
            everyone={"identities": 1.0},
            gallery={"of": "everyone", "images": 1},
            probe={"of": "everyone", "images": "rest", "min_images": 2},
        ),
        0,
    )
    assert len(rows["gallery"]) == 4
    assert {subjects[row] for row in rows["probe"]} == {"many", "some", "few"}


def test_a_new_identity_does_not_reshuffle_the_others():
    images = {f"s{number}": 3 for number in range(30)}
    before, after = people(**images), people(newcomer=3, **images)
    share = parts(a={"identities": 10}, b={"identities": "rest"})
    moved = {before[0][row] for row in split_rows(*before, share, 5)["a"]} - {
        after[0][row] for row in split_rows(*after, share, 5)["a"]
    }
    assert len(moved) <= 1


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"train": {"identities": 50}}, "`train` asks for 50 identities; 40 of 40 are left"),
        ({"a": {"identities": 30}, "b": {"identities": 11}}, "`b` asks for 11 identities; 10 of 40 are left"),
        (
            {"a": {"identities": 40}, "b": {"identities": "rest"}},
            "split `b` is empty: the other parts leave it no identities",
        ),
        ({"a": {"identities": 2, "min_images": 11}}, "asks for 2 identities with 11 images or more; 0 of 40"),
        ({"a": {"identities": 0.6}, "b": {"identities": 0.5}}, "the shares of a, b add up to 1.1"),
        ({"a": {"identities": "rest"}, "b": {"identities": "rest"}}, "`rest` is taken by `a` already"),
        (
            {"probe": {"of": "tset", "images": 5}, "test": {"identities": 9}},
            "`of: tset` names no part; did you mean `test`?",
        ),
        ({"a": {"of": "b", "images": 1}, "b": {"of": "a", "images": 1}}, "leads in a circle: a -> b -> a"),
        ({"a": {"of": "a", "images": 1}}, "leads in a circle: a -> a"),
        ({"t": {"identities": 9}, "g": {"of": "t", "images": 11}}, "takes 11 images of each identity; s"),
        (
            {"t": {"identities": 9}, "g": {"of": "t", "images": 10}, "p": {"of": "t", "images": "rest"}},
            "split `p` is empty: the other parts leave it no images",
        ),
    ],
)
def test_what_cannot_be_split_says_why(blocks, message):
    with pytest.raises(OccframeError) as caught:
        split_rows(*ORL, parts(**blocks), 0)
    assert message in caught.value.message
    assert caught.value.remedy


def test_one_identity_cannot_be_divided():
    with pytest.raises(OccframeError, match="asks for 28 identities; 1 of 1 are left"):
        split_rows(*people(me=10), DOCUMENTED, 0)


def test_problems_are_known_without_data():
    declared = parts(a={"of": "b", "images": 1}, b={"of": "a", "images": 1}, c={"of": "x", "images": 0.5})
    assert [name for name, _ in part_problems(declared)] == ["a", "b", "c"]
    assert list(part_problems(DOCUMENTED)) == []


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"identities": 0},
        {"identities": 1.5},
        {"identities": 0.0},
        {"identities": True},
        {"identities": "half"},
        {"images": 3},
        {"of": "a"},
        {"identities": 3, "of": "a"},
        {"identities": 3, "images": 2},
        {"identities": 3, "imags": 2},
    ],
)
def test_a_part_written_wrong_is_refused(block):
    with pytest.raises(ValidationError):
        SplitPart(**block)


class Faces:
    """A data set of names, for the parts of the machinery that read no picture."""

    def __init__(self, subjects, ids):
        self.subjects, self.ids = subjects, ids
        self.landmarks = np.arange(len(ids) * 10, dtype=np.float32).reshape(-1, 5, 2)
        self.attributes = {"age": np.arange(len(ids))}
        self.blocks = [range(start, min(start + 64, len(ids))) for start in range(0, len(ids), 64)]
        self.aligned = True

    def read(self, rows):
        return [np.full((1, 1, 3), row % 256, np.uint8) for row in rows]

    def fingerprint(self):
        return "faces-1"


def test_apply_split_gives_a_data_set():
    whole = Faces(*ORL)
    test = apply_split(whole, DOCUMENTED, "test", 0)
    rows = split_rows(*ORL, DOCUMENTED, 0)["test"]
    assert [whole.ids[row] for row in rows] == list(test.ids)
    assert len(set(test.subjects)) == 12
    assert np.array_equal(test.landmarks, whole.landmarks[rows])
    assert np.array_equal(test.attributes["age"], rows)
    assert [int(image[0, 0, 0]) for image in test.read([0, 5, 3])] == [rows[at] % 256 for at in (0, 5, 3)]
    assert [row for block in test.blocks for row in block] == list(range(len(rows)))
    for block in test.blocks:
        assert len({rows[row] // 64 for row in block}) == 1
    assert test.fingerprint() != whole.fingerprint()
    assert test.fingerprint() == apply_split(whole, DOCUMENTED, "test", 0).fingerprint()
    assert test.fingerprint() != apply_split(whole, DOCUMENTED, "test", 1).fingerprint()


def test_an_undeclared_split_is_named_with_near_ones():
    with pytest.raises(OccframeError, match=r"no split `tets`\n.*`test`"):
        apply_split(Faces(*ORL), DOCUMENTED, "tets", 0)


def test_declaring_splits_imports_nothing_heavy():
    code = (
        "import sys; from occframe.data.splits import SplitPart;"
        "print([name for name in ('torch', 'cv2', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
