from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.data import FaceLoader, Quarantine, Subset, augmentation, load_faces
from occframe.data.augmentation import Augmentation
from occframe.data.camera import photographed
from occframe.data.order import shuffled_rows
from occframe.data.transfer import ahead, moved
from occframe.errors import OccframeError
from occframe.random import uniform
from occframe.types import FaceBatch, Occluded
from occframe_datasets.synthetic import SyntheticFaces
from tests.pictures import encode, noise

SIZE = 16


class Pictures:
    """Faces whose first pixel tells the row; those in ``bad`` cannot be read."""

    aligned = True
    attributes: dict = {}  # noqa: RUF012

    def __init__(self, count=50, *, bad=(), blocks=None, size=(SIZE, SIZE), encoded=False, landmarks=None):
        self.ids = [f"id{row}" for row in range(count)]
        self.subjects = [f"p{row % 5}" for row in range(count)]
        self.blocks = blocks or [range(count)]
        self.landmarks = landmarks
        self.bad, self.size, self.encoded = set(bad), size, encoded
        self.reads = []

    def picture(self, row):
        image = noise(*self.size, seed=row)
        image[0, 0] = row % 256, row // 256, 7
        return image

    def read(self, rows):
        self.reads.append((threading.get_ident(), list(rows)))
        return [
            b"" if row in self.bad else encode(self.picture(row), ".png") if self.encoded else self.picture(row)
            for row in rows
        ]

    def fingerprint(self):
        return "pictures"


class Stripe:
    """Occludes column ``seed % width``; remembers what it was given."""

    def __init__(self):
        self.seen = []

    def sample(self, batch, seeds):
        self.seen.append((batch, seeds))
        return {"column": (uniform(seeds, 1, 1)[:, 0] * batch.images.shape[3]).long()}

    def apply(self, images, params):
        columns = torch.arange(images.shape[3])[None, None, None] == params["column"][:, None, None, None]
        mask = columns.expand(len(images), 1, images.shape[2], -1)
        return Occluded(torch.where(mask, 255, images), mask.float())


def loader(dataset=None, **options):
    defaults = {"height": SIZE, "width": SIZE, "batch_size": 8, "threads": 2, "seed": 5}
    return FaceLoader(dataset or Pictures(), **defaults | options)


def rows_of(batches):
    return [row for batch in batches for row in batch.index.tolist()]


def by_row(batches, *names):
    """row -> tensors of that image."""
    return {
        int(batch.index[at]): [getattr(batch, name)[at] for name in names]
        for batch in batches
        for at in range(len(batch.index))
    }


def same(left: FaceBatch, right: FaceBatch) -> bool:
    pairs = ((getattr(left, name), getattr(right, name)) for name in vars(left))
    return all(a is b or torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("encoded", [False, True])
def test_batches_hold_the_pictures_in_order(encoded):
    dataset = Pictures(20, encoded=encoded)
    batches = list(loader(dataset).epoch(0))
    assert [len(batch.index) for batch in batches] == [8, 8, 4]
    assert rows_of(batches) == list(range(20))
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert (batch.identities, batch.landmarks, batch.mask, batch.clean) == (None, None, None, None)
        for image, row in zip(batch.images, batch.index.tolist(), strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), dataset.picture(row))


def test_the_last_batch_can_be_dropped():
    dropping = loader(Pictures(20), drop_last=True)
    assert dropping.batches_per_epoch == 2
    assert [len(batch.index) for batch in dropping.epoch(0)] == [8, 8]


def test_labels_are_the_positions_in_classes():
    classes = [f"p{number}" for number in (4, 2, 0, 1, 3)]
    for batch in loader(classes=classes).epoch(0):
        assert batch.identities.dtype == torch.int64
        assert [classes[label] for label in batch.identities] == [f"p{row % 5}" for row in batch.index]


def test_an_identity_without_a_class_is_named():
    with pytest.raises(OccframeError, match="1 identities of the data set are not among the 4 classes: 'p4'"):
        loader(classes=["p0", "p1", "p2", "p3"])


@pytest.mark.parametrize("dataset", [Pictures(0), Subset(Pictures(5), [])])
def test_an_empty_data_set_is_refused(dataset):
    with pytest.raises(OccframeError, match="the data set is empty"):
        loader(dataset)
    with pytest.raises(OccframeError, match="has 5 images, fewer than a batch of 8"):
        loader(Pictures(5), drop_last=True)


def test_any_batch_can_be_made_again():
    """Exact resume: batch k of an epoch is the same whoever asks for it, and whenever."""
    options = {"shuffle": True, "flip": True, "occlusion": Stripe(), "occlusion_probability": 0.6, "keep_clean": True}
    points = np.random.default_rng(0).random((50, 5, 2), np.float32) * SIZE
    first = loader(Pictures(landmarks=points), threads=1, **options)
    again = loader(Pictures(landmarks=points), threads=4, **options)
    for epoch in (0, 3):
        whole = list(first.epoch(epoch))
        for start in range(len(whole)):
            rest = list(again.epoch(epoch, start_batch=start))
            assert len(rest) == len(whole) - start
            assert all(same(left, right) for left, right in zip(whole[start:], rest, strict=True))
    assert list(first.epoch(1, start_batch=first.batches_per_epoch)) == []


def test_an_image_does_not_depend_on_its_batch():
    options = {"flip": True, "occlusion": Stripe(), "occlusion_probability": 0.5, "keep_clean": True}
    large = by_row(loader(batch_size=50, **options).epoch(2), "images", "mask", "clean")
    small = by_row(loader(batch_size=3, shuffle=True, **options).epoch(2), "images", "mask", "clean")
    alone = by_row(loader(Subset(Pictures(), [7, 8, 30]), **options).epoch(2), "images", "mask", "clean")
    for row, tensors in small.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, large[row], strict=True))
    for row, tensors in zip((7, 8, 30), alone.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(tensors, large[row], strict=True))


def test_epochs_and_seeds_differ():
    options = {"shuffle": True, "occlusion": Stripe()}
    orders = {tuple(rows_of(loader(seed=seed, **options).epoch(epoch))) for seed in (1, 2) for epoch in (0, 1, 2)}
    assert len(orders) == 6
    assert all(sorted(order) == list(range(50)) for order in orders)
    masks = [by_row(loader(seed=seed, **options).epoch(epoch), "mask") for seed in (1, 2) for epoch in (0, 1)]
    for left, right in pairwise(masks):
        assert sum(torch.equal(left[row][0], right[row][0]) for row in range(50)) < 15


# --- occlusion and flips ----------------------------------------------------------------------------------------------


def test_the_share_of_occluded_images():
    for probability in (0.0, 0.3, 1.0):
        batches = list(loader(Pictures(400), occlusion=Stripe(), occlusion_probability=probability).epoch(0))
        occluded = torch.cat([batch.mask.flatten(1).amax(1) for batch in batches])
        assert abs(occluded.mean().item() - probability) < 0.08


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_clean_images_are_those_before_occlusion(probability):
    options = {"occlusion": Stripe(), "occlusion_probability": probability, "flip": True}
    plain = by_row(loader(flip=True).epoch(0), "images")
    for batch in loader(keep_clean=True, **options).epoch(0):
        for at, row in enumerate(batch.index.tolist()):
            assert torch.equal(batch.clean[at], plain[row][0])
            visible = batch.mask[at].expand(3, -1, -1) == 0
            assert torch.equal(batch.images[at][visible], batch.clean[at][visible])
            assert (batch.images[at][~visible] == 255).all()
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.mask.dtype == torch.float32
    assert next(loader(**options).epoch(0)).clean is None
    assert torch.equal(*(getattr(next(loader(keep_clean=True).epoch(0)), name) for name in ("clean", "images")))


def test_the_generator_sees_what_it_occludes():
    points = np.random.default_rng(0).random((50, 5, 2), np.float32) * SIZE
    stripe = Stripe()
    given = loader(
        Pictures(landmarks=points),
        occlusion=stripe,
        occlusion_probability=0.5,
        flip=True,
        classes=[f"p{number}" for number in range(5)],
    )
    whole = {int(row): batch for batch in given.epoch(0) for row in batch.index}
    assert stripe.seen
    for seen, seeds in stripe.seen:
        assert len(seen.images) == len(seeds) > 0
        for at, row in enumerate(seen.index.tolist()):
            inside = whole[row].index.tolist().index(row)
            assert torch.equal(seen.landmarks[at], whole[row].landmarks[inside])
            assert seen.identities[at] == whole[row].identities[inside]


def test_a_flip_mirrors_the_picture_and_swaps_left_and_right():
    points = np.array([[[4, 5], [11, 5], [8, 8], [5, 12], [10, 12]]], np.float32).repeat(50, 0)
    dataset = Pictures(landmarks=points)
    plain = by_row(loader(dataset).epoch(0), "images", "landmarks")
    flipped = by_row(loader(dataset, flip=True).epoch(0), "images", "landmarks")
    mirrored = 0
    for row, (image, landmarks) in flipped.items():
        if torch.equal(image, plain[row][0]):
            assert torch.equal(landmarks, plain[row][1])
            continue
        mirrored += 1
        assert torch.equal(image, plain[row][0].flip(2))
        assert landmarks.tolist() == [[4, 5], [11, 5], [7, 8], [5, 12], [10, 12]]
    assert 12 < mirrored < 38


def test_landmarks_follow_the_fit():
    points = np.tile(np.float32([[[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]]]), (50, 1, 1))
    dataset = Pictures(size=(60, 40), landmarks=points)
    fitted = by_row(loader(dataset, height=30, width=20).epoch(0), "images", "landmarks")
    assert fitted[0][0].shape == (3, 30, 20)
    assert torch.allclose(fitted[0][1], torch.from_numpy((points[0] + 0.5) / 2 - 0.5))
    narrow = by_row(loader(dataset, height=60, width=30).epoch(0), "landmarks")
    assert narrow[0][0].tolist() == (points[0] - [5, 0]).tolist()


# --- bad pictures -----------------------------------------------------------------------------------------------------


def test_bad_pictures_leave_and_the_rest_stays_aligned():
    bad = {3, 17, 41}
    points = np.arange(500, dtype=np.float32).reshape(50, 5, 2)
    quarantine = Quarantine()
    reading = loader(
        Pictures(bad=bad, landmarks=points),
        occlusion=Stripe(),
        classes=[f"p{number}" for number in range(5)],
        quarantine=quarantine,
    )
    batches = list(reading.epoch(0))
    assert [len(batch.index) for batch in batches] == [7, 8, 7, 8, 8, 7, 2]
    assert sorted({*rows_of(batches)} | bad) == list(range(50))
    for batch in batches:
        assert len(batch.images) == len(batch.mask) == len(batch.index)
        assert batch.images[:, 0, 0].amin() >= 0
        for at, row in enumerate(batch.index.tolist()):
            assert batch.identities[at] == row % 5
            assert torch.equal(batch.landmarks[at], torch.from_numpy(points[row]))
    list(reading.epoch(1))
    assert quarantine.reasons == {"empty file": 3}
    clean = by_row(loader(Pictures(), occlusion=Stripe()).epoch(0), "images")
    assert all(torch.equal(image, clean[row][0]) for row, (image,) in by_row(batches, "images").items())


def test_a_batch_of_which_nothing_is_left_is_passed_over():
    reading = loader(Pictures(bad=range(8, 16)), quarantine=Quarantine(share=0.5))
    assert [batch.index[0].item() for batch in reading.epoch(0)] == [0, 16, 24, 32, 40, 48]


def test_too_many_bad_pictures_stop_the_epoch():
    with pytest.raises(OccframeError, match=r"of 50 images cannot be read, more than 10%.*empty file"):
        list(loader(Pictures(bad=range(0, 50, 2))).epoch(0))


def test_load_faces_for_the_eye():
    faces = load_faces(Pictures(9, bad=[4], encoded=True), [2, 4, 1], SIZE, SIZE)
    assert faces.dtype == np.uint8
    assert [image[0, 0].tolist() for image in faces] == [[2, 0, 7], [0, 0, 0], [1, 0, 7]]


# --- order and threads ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 6), st.integers(0, 3))
def test_a_shuffle_uses_few_blocks_at_a_time(lengths, window, epoch):
    stops = np.cumsum(lengths).tolist()
    blocks = [range(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    rows = shuffled_rows(blocks, window, seed=1, epoch=epoch)
    assert sorted(rows) == list(range(stops[-1]))
    block_of = {row: number for number, block in enumerate(blocks) for row in block}
    order = [block_of[row] for row in rows]
    spans = [(order.index(number), len(order) - order[::-1].index(number)) for number in range(len(blocks))]
    for at in range(len(order)):
        assert sum(start <= at < stop for start, stop in spans) <= window


def test_the_window_is_what_the_data_set_keeps():
    blocks = [range(start, start + 10) for start in range(0, 200, 10)]
    dataset = Pictures(200, blocks=blocks)
    dataset.cached_blocks = 8
    rows = rows_of(loader(dataset, shuffle=True, batch_size=40).epoch(0))
    for start in range(0, 200, 40):
        assert len({row // 10 for row in rows[start : start + 40]}) == 4
    assert len({row // 10 for row in rows_of(loader(Pictures(200, blocks=blocks), shuffle=True).epoch(0))[:40]}) > 4


def test_leaving_an_epoch_early_ends_its_threads():
    dataset = Pictures(4000)
    running = loader(dataset, threads=3).epoch(0)
    next(running)
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("faces")]
    read = sum(len(rows) for _, rows in dataset.reads)
    assert read <= 8 * 8
    for _ in loader(dataset, threads=3).epoch(0):
        break
    time.sleep(0.05)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("faces")]


def test_work_runs_ahead_but_not_far():
    dataset = Pictures(4000)
    running = loader(dataset, threads=2).epoch(0)
    for taken in range(1, 6):
        next(running)
        time.sleep(0.03)
        assert taken * 8 < sum(len(rows) for _, rows in dataset.reads) <= (taken + 4) * 8
    running.close()
    assert len({thread for thread, _ in dataset.reads}) == 2


def test_what_a_thread_raises_arrives():
    class Broken(Stripe):
        def apply(self, images, params):
            raise OccframeError("this generator is broken")

    with pytest.raises(OccframeError, match="this generator is broken"):
        list(loader(occlusion=Broken()).epoch(0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("faces")]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.booleans())
def test_every_image_comes_once(count, batch_size, threads, drop_last):
    if drop_last and count < batch_size:
        return
    reading = loader(
        Pictures(count), batch_size=batch_size, threads=threads, drop_last=drop_last, shuffle=True, flip=True
    )
    batches = list(reading.epoch(0))
    assert len(batches) == reading.batches_per_epoch
    rows = rows_of(batches)
    assert len(rows) == len(set(rows)) == (count // batch_size * batch_size if drop_last else count)


def test_batches_are_the_consumers_to_keep():
    """Nothing is reused behind the consumer's back."""
    batches = list(loader(Pictures(64)).epoch(0))
    copies = [replace(batch, images=batch.images.clone()) for batch in batches]
    list(loader(Pictures(64)).epoch(1))
    assert all(same(left, right) for left, right in zip(batches, copies, strict=True))


def test_grey_comes_after_occlusion_for_the_image_and_its_clean_twin():
    options = {"occlusion": Stripe(), "keep_clean": True}
    (coloured,) = loader(Pictures(8), **options).epoch(0)
    (grey,) = loader(Pictures(8), grey=1.0, **options).epoch(0)
    for before, after in ((coloured.images, grey.images), (coloured.clean, grey.clean)):
        assert not torch.equal(before[:, 0], before[:, 1])
        assert torch.equal(after[:, :1].expand(-1, 3, -1, -1), after)
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        assert (after[:, 0] - (before * weights).sum(1)).abs().max() <= 1
    some = torch.cat([batch.images for batch in loader(Pictures(400), grey=0.25).epoch(0)])
    share = float((some[:, :1] == some).all(3).all(2).all(1).float().mean())
    assert 0.15 < share < 0.35


def test_an_occluded_picture_and_its_clean_twin_meet_one_camera():
    options = {"occlusion": Stripe(), "keep_clean": True, "threads": 1}
    (plain,) = loader(Pictures(8), **options).epoch(0)
    (taken,) = loader(Pictures(8), camera=1.0, **options).epoch(0)
    seeds = (
        Augmentation(
            Pictures(8),
            seed=5,
            flip=False,
            camera=1.0,
            grey=0.0,
            occlusion=None,
            occlusion_probability=1,
            keep_clean=False,
        )
        .draw(0, np.arange(8), np.zeros(8, np.int64))
        .camera_seeds
    )
    assert torch.equal(taken.images, photographed(plain.images, seeds))
    assert torch.equal(taken.clean, photographed(plain.clean, seeds))
    assert torch.equal(taken.mask, plain.mask)
    before, after = (
        torch.cat([batch.images for batch in loader(Pictures(200), camera=share, threads=1).epoch(0)])
        for share in (0.0, 0.3)
    )
    assert 0.2 < float((before != after).flatten(1).any(1).float().mean()) < 0.4


def test_processes_share_a_batch(tmp_path):
    faces = SyntheticFaces(identities=5, images=4, size=16, seed=0)
    options = {"height": 16, "width": 16, "batch_size": 6, "threads": 1, "seed": 3, "shuffle": True, "drop_last": True}
    alone = [batch.index.tolist() for batch in FaceLoader(faces, **options).epoch(1)]
    parts = [
        [batch.index.tolist() for batch in FaceLoader(faces, **options, share=(rank, 3)).epoch(1)] for rank in range(3)
    ]
    assert [[row for part in together for row in part] for together in zip(*parts, strict=True)] == alone
    with pytest.raises(OccframeError, match="cannot be dealt out to 4 processes"):
        FaceLoader(faces, **options, share=(0, 4))


def test_a_shared_batch_stays_whole_where_pictures_are_unreadable():
    class Damaged(SyntheticFaces):
        def read(self, rows):
            return [b"\xff\xd8\xff" if row % 5 == 0 else super(Damaged, self).read([row])[0] for row in rows]

    faces = Damaged(identities=5, images=4, size=16, seed=0)
    quarantine = Quarantine(share=0.5)
    loader = FaceLoader(
        faces, height=16, width=16, batch_size=20, threads=1, seed=0, quarantine=quarantine, share=(1, 2)
    )
    (batch,) = loader.epoch(0)
    assert batch.index.tolist() == [11, 12, 13, 14, 16, 17, 18, 19, 11, 11]
    assert len(quarantine) == 2


# --- on the device ----------------------------------------------------------------------------------------------------


def everything(where: str, **options):
    points = np.random.default_rng(0).random((50, 5, 2), np.float32) * SIZE
    return loader(
        Pictures(landmarks=points, bad=[9]),
        **{
            "shuffle": True,
            "flip": True,
            "camera": 0.3,
            "grey": 0.3,
            "occlusion": Stripe(),
            "occlusion_probability": 0.6,
            "keep_clean": True,
            "augment_on": where,
        }
        | options,
    )


@pytest.mark.parametrize("options", [{}, {"occlusion": None}, {"occlusion_probability": 1.0}, {"keep_clean": False}])
def test_pictures_are_the_same_wherever_they_are_augmented(options):
    for epoch in (0, 1):
        here, there = (list(everything(where, **options).epoch(epoch)) for where in ("workers", "device"))
        assert all(same(left, right) for left, right in zip(here, there, strict=True))
        rest = list(everything("device", **options).epoch(epoch, start_batch=3))
        assert all(same(left, right) for left, right in zip(here[3:], rest, strict=True))


def test_occlusions_are_drawn_by_the_threads_also_where_the_device_paints():
    class Watched(Stripe):
        drawn_in, painted_in = set(), set()

        def sample(self, batch, seeds):
            self.drawn_in.add(threading.current_thread().name.split("_")[0])
            return super().sample(batch, seeds)

        def apply(self, images, params):
            self.painted_in.add(threading.current_thread().name)
            return super().apply(images, params)

    assert len(list(everything("device", occlusion=Watched()).epoch(0))) == 7
    assert Watched.drawn_in == {"faces"}
    assert Watched.painted_in == {threading.current_thread().name}


def test_what_a_device_does_is_what_a_cpu_does(monkeypatch):
    """The tensor operations that stand for OpenCV's on a device, run here."""
    usual = [list(everything("device", occlusion_probability=share).epoch(0)) for share in (0.6, 1.0)]
    monkeypatch.setattr(augmentation, "_on_cpu", lambda images: False)
    for share, expected in zip((0.6, 1.0), usual, strict=True):
        tensors = everything("device", occlusion_probability=share).epoch(0)
        assert all(same(left, right) for left, right in zip(expected, tensors, strict=True))


def test_a_thread_runs_two_items_ahead_in_order_and_ends_with_the_consumer():
    threads, closed = [], []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread())

    def double(number):
        threads.append(threading.current_thread())
        return [number * 2]

    running = ahead(items(), double)
    assert [next(running) for _ in range(3)] == [[0], [2], [4]]
    time.sleep(0.05)
    assert len(threads) <= 3 + 2
    running.close()
    assert closed == [threading.current_thread()]
    assert len(set(threads)) == 1
    assert not threads[0].is_alive()
    assert list(ahead(items(), double)) == [[2 * number] for number in range(100)]


def test_what_goes_wrong_ahead_arrives():
    def items():
        yield 1
        raise OccframeError("the disk is gone")

    running = ahead(items(), lambda number: [number])
    assert next(running) == [1]
    with pytest.raises(OccframeError, match="the disk is gone"):
        next(running)


def test_a_tensor_under_two_names_is_moved_once():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    there = moved(FaceBatch(images, torch.arange(2), clean=images), torch.device("meta"))
    assert there.clean is there.images
    assert (there.images.device.type, there.mask) == ("meta", None)
