"""A gallery in an S3 bucket, over HTTP to a server on this machine: the same promises, held by conditional puts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest

from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter, publishing
from occframe.gallery.verification import check_gallery
from occframe.types import ImageSpec

pytest.importorskip("s3fs", reason="no s3fs: pip install occframe[dev]")
moto_server = pytest.importorskip("moto.server", reason="no moto: pip install occframe[dev]")

DIM = 16


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket. URLs find the server as they would find a private store: through fsspec's configuration."""
    options = {"endpoint_url": endpoint, "key": "test", "secret": "test"}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    name = f"faces-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def create(url: str, count: int = 0) -> Gallery:
    gallery = Gallery.create(url, GallerySchema(dim=DIM, model_fingerprint="model-a", image_spec=ImageSpec()))
    if count:
        add(gallery, [f"p{row}" for row in range(count)])
    return gallery


def add(gallery: Gallery, ids: list[str], **options: Any) -> None:
    subjects = [f"s-{name}" for name in ids]
    gallery.append(ids, subjects, unit_vectors(len(ids), hash(ids[0]) % 99), model_fingerprint="model-a", **options)


def test_everything_a_gallery_does(bucket: str) -> None:
    url = f"{bucket}/teams/red"
    gallery = create(url, 50)
    with pytest.raises(OccframeError, match=r"there is a gallery at .* already"):
        create(url)
    vectors = gallery.read_vectors()
    add(gallery, ["p3", "new"], replace=True)
    assert gallery.delete(["p7"], subjects=["s-p9"]) == 2
    kept = [f"p{row}" for row in range(50) if row not in (3, 7, 9)] + ["p3", "new"]
    opened = Gallery.open(url)
    assert list(opened.read().ids) == kept
    assert opened.read_ids().to_pylist() == kept
    np.testing.assert_array_equal(opened.open_rows().take(np.array([0, 4])), vectors[[0, 5]])
    done = opened.compact()
    assert (done.rewritten, done.written, done.removed, done.left) == (2, 1, 3, ())
    assert list(Gallery.open(url).read().ids) == kept
    assert check_gallery(url).ok
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    assert len(fs.glob(f"{url}/part-*")) == 1


def test_two_writers_at_once_lose_nothing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create(bucket + "/g", 2)
    lost, swapped = [], publishing._swap

    def counted(*arguments: Any) -> None:
        try:
            swapped(*arguments)
        except publishing._LostRaceError:
            lost.append(1)
            raise

    monkeypatch.setattr(publishing, "_swap", counted)

    def work(name: str) -> None:
        for number in range(2):
            add(Gallery.open(bucket + "/g"), [f"{name}{number}"])

    with ThreadPoolExecutor(3) as threads:
        deleting = threads.submit(lambda: [Gallery.open(bucket + "/g").delete([f"p{row}"]) for row in range(2)])
        for done in [*map(threads.submit, [work] * 2, ["a", "b"]), deleting]:
            done.result()
    assert lost  # they did meet
    assert sorted(Gallery.open(bucket + "/g").read().ids) == [f"{name}{number}" for name in "ab" for number in range(2)]


def test_the_slower_of_two_that_add_one_id_is_told(bucket: str) -> None:
    gallery = create(bucket + "/g")
    first, second = (GalleryWriter(gallery.url, gallery.schema) for _ in range(2))
    for writer in (first, second):
        writer.write(["a"], ["s"], unit_vectors(1))
    first.commit()
    with pytest.raises(OccframeError, match="the id `a` is there already"):
        second.commit()
    assert check_gallery(gallery.url).garbage == ()


def test_a_put_whose_answer_was_lost_counts_once(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, swapped = create(bucket + "/g", 3), publishing._swap

    def twice(*arguments: Any) -> None:
        swapped(*arguments)
        swapped(*arguments)

    monkeypatch.setattr(publishing, "_swap", twice)
    assert gallery.delete(["p1"]) == 1
    add(gallery, ["q"])
    assert list(Gallery.open(gallery.url).read().ids) == ["p0", "p2", "q"]


def test_what_an_interrupted_writer_left_goes_after_a_while(bucket: str) -> None:
    gallery = create(bucket + "/g", 3)
    fs = fsspec.filesystem("s3")
    fs.pipe_file(f"{gallery.url}/part-000009-deadbeef.parquet", b"half")
    fs.pipe_file(f"{gallery.url}/notes.txt", b"mine")
    assert check_gallery(gallery.url, repair=True).removed == ()
    report = check_gallery(gallery.url, repair=True, grace=timedelta(0))
    assert report.removed == report.garbage == ("part-000009-deadbeef.parquet",)
    assert fs.cat_file(f"{gallery.url}/notes.txt") == b"mine"
    assert check_gallery(gallery.url).garbage == ()


def test_an_upload_that_was_cut_short_is_aborted(bucket: str) -> None:
    gallery, fs = create(bucket + "/g", 3), fsspec.filesystem("s3")
    name = bucket.removeprefix("s3://")
    for key in ("g/part-000009-deadbeef.parquet", "g/sub/part-000009-deadbeef.parquet", "g/film.mp4"):
        fs.call_s3("create_multipart_upload", Bucket=name, Key=key)
    assert check_gallery(gallery.url).garbage == ("part-000009-deadbeef.parquet",)
    # The server of the tests says of every upload that it began in 2010.
    assert check_gallery(gallery.url, repair=True, grace=timedelta(days=36_500)).removed == ()
    assert check_gallery(gallery.url, repair=True, grace=timedelta(0)).removed == ("part-000009-deadbeef.parquet",)
    assert check_gallery(gallery.url).garbage == ()
    assert len(fs.list_multipart_uploads(name)) == 2


def test_a_store_without_conditional_puts_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = create(bucket + "/g", 3)

    class Refused(Exception):
        response: ClassVar = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}

    def put(*arguments: Any, **options: Any) -> None:
        raise OSError("A header you provided implies functionality that is not implemented") from Refused()

    monkeypatch.setattr(fsspec.filesystem("s3"), "pipe_file", put)
    with pytest.raises(OccframeError, match="has no conditional put"):
        gallery.delete(["p1"])
    monkeypatch.undo()


def test_parts_of_many_blocks_arrive_whole(bucket: str) -> None:
    rows = 26_500
    schema = GallerySchema(dim=1024, model_fingerprint="model-a", image_spec=ImageSpec())
    vector = np.zeros((rows, 1024), np.float16)
    vector[np.arange(rows), np.arange(rows) % 1024] = 1
    names = [f"p{row}" for row in range(rows)]
    with GalleryWriter(bucket + "/big", schema) as writer:
        writer.write(names, names, vector)
    gallery = Gallery.open(bucket + "/big")
    assert gallery.parts[0].bytes > 50 * 2**20  # s3fs uploads in blocks of that size
    assert check_gallery(gallery.url).ok
    np.testing.assert_array_equal(gallery.read_vectors(), vector)
