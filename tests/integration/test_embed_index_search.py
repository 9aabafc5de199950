"""Steps embed, index and search through the real loader, models, store and matchers, on the tiniest faces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import Interrupted, OccframeError
from occframe.gallery import Gallery, GalleryWriter, read_hits
from occframe.images import to_model_input
from occframe.models import embed_images, load_model, save_model
from occframe.step import Artefact, StepOutcome
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.steps.index import IndexConfig, IndexStep
from occframe.steps.replay import replay_faces
from occframe.steps.search import SearchConfig, SearchStep
from occframe.types import ImageSpec
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import TinyBackbone, TinyFaces, tiny_registry

REGISTRY = tiny_registry()
RECTANGLES = {"use": "rectangles", "coverage": [0.2, 0.5]}
PRECISE = {"precision": "fp32", "dtype": "float32", "threads": 2}


class CountingFaces(TinyFaces):
    """Remembers which rows were read, and refuses to go on after a number of them; some pictures are rubbish."""

    def __init__(self, *, bad: Sequence[int] = (), stop_after: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.bad, self.limit = set(bad), stop_after
        self.asked: list[int] = []

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        self.asked += rows
        if self.limit is not None and len(self.asked) > self.limit:
            raise OSError("the disk went away")
        return [b"rubbish" if row in self.bad else self.images[row] for row in rows]


def make_model(folder: Path, seed: int = 0, poison: bool = False) -> Artefact:
    torch.manual_seed(seed)
    block = BackboneBlock.model_validate({"use": "tiny"}, context={"registry": REGISTRY})
    backbone: TinyBackbone = BuildContext(REGISTRY).build(block)
    if poison:
        backbone.head[2].bias.data[0] = float("nan")
    meta = save_model(str(folder), backbone, block)
    return Artefact("recogniser", "model", str(folder), meta)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return make_model(tmp_path_factory.mktemp("model"))


def embedding(
    url: Path, faces: Any, model: Artefact, *, seed: int = 7, stop: Any = lambda: False, **options: Any
) -> Any:
    return FakeStepContext(
        url,
        {"data": "faces", "model": "recogniser"} | PRECISE | options,
        EmbedConfig,
        name="embedded",
        datasets={"faces": faces},
        artefacts={"recogniser": model},
        registry=REGISTRY,
        seed=seed,
        stop=stop,
    )


def embed(url: Path, faces: Any, model: Artefact, **options: Any) -> tuple[Artefact, FakeStepContext, StepOutcome]:
    context = embedding(url, faces, model, **options)
    outcome = EmbedStep().run(context)
    meta = json.loads(json.dumps(outcome.outputs[""]))
    return Artefact("embedded", "embeddings", str(url), meta), context, outcome


# --- embed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_a_gallery_holds_what_the_model_gives(tmp_path: Path, model: Artefact, flip: bool) -> None:
    faces = TinyFaces()
    artefact, context, outcome = embed(tmp_path, faces, model, flip=flip, batch_size=5)
    table = Gallery.open(artefact.url).read()
    loaded = load_model(model.url, context.build)
    expected = embed_images(loaded, torch.from_numpy(faces.images).permute(0, 3, 1, 2), precision="fp32", flip=flip)
    np.testing.assert_allclose(table.vectors, expected.numpy(), atol=1e-6)
    assert list(table.ids) == faces.ids
    assert list(table.subjects) == faces.subjects
    assert artefact.meta["count"] == 32
    assert artefact.meta["model_fingerprint"] == Gallery.open(artefact.url).fingerprint == model.meta["fingerprint"]
    assert artefact.meta["image_spec"]["height"] == 8
    assert (artefact.meta["data"], artefact.meta["occlusion"], artefact.meta["quarantined"]) == ("faces", None, 0)
    assert outcome.metrics["embeddings"] == 32
    assert context.bars[0].done == 32
    assert context.notes == []


def test_occlusion_depends_on_its_own_seed_alone(tmp_path: Path, model: Artefact) -> None:
    def vectors(name: str, **options: Any) -> np.ndarray:
        artefact, _, _ = embed(tmp_path / name, TinyFaces(), model, occlusion=RECTANGLES, **options)
        return Gallery.open(artefact.url).read().vectors

    first = vectors("a", batch_size=32, threads=1)
    np.testing.assert_allclose(vectors("b", batch_size=3, threads=4), first, atol=1e-5)
    np.testing.assert_allclose(vectors("c", seed=8), first, atol=1e-5)
    assert np.abs(vectors("d", occlusion_seed=1) - first).max() > 0.01
    clean, _, _ = embed(tmp_path / "clean", TinyFaces(), model)
    assert np.abs(Gallery.open(clean.url).read().vectors - first).max() > 0.01


def test_float16_is_the_default_and_loses_little(tmp_path: Path, model: Artefact) -> None:
    precise, _, _ = embed(tmp_path / "a", TinyFaces(), model)
    halved, _, _ = embed(tmp_path / "b", TinyFaces(), model, dtype="float16")
    assert EmbedConfig.model_fields["dtype"].default == "float16"
    assert Gallery.open(halved.url).schema.dtype == "float16"
    left, right = (Gallery.open(artefact.url).read().vectors for artefact in (precise, halved))
    np.testing.assert_allclose(left, right, atol=1e-3)


def test_faces_that_are_not_aligned_are_told(tmp_path: Path, model: Artefact) -> None:
    faces = TinyFaces()
    faces.aligned = False
    _, context, _ = embed(tmp_path, faces, model)
    assert "`faces` are not aligned" in context.notes[0]


def test_bad_pictures_are_left_out_and_counted(tmp_path: Path, model: Artefact) -> None:
    artefact, context, _ = embed(tmp_path, CountingFaces(bad=[3, 17]), model, batch_size=4)
    assert artefact.meta["quarantined"] == 2
    assert artefact.meta["count"] == Gallery.open(artefact.url).count == 30
    assert any("2 images left out" in note for note in context.notes)
    listed = [json.loads(line)["id"] for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert listed == ["person 0/3", "person 2/17"]
    with pytest.raises(OccframeError, match="of 32 images cannot be read"):
        embed(tmp_path / "all", CountingFaces(bad=range(32)), model)


def test_a_network_that_overflows_is_told_by_image(tmp_path: Path) -> None:
    broken = make_model(tmp_path / "model", poison=True)
    with pytest.raises(OccframeError, match="embedding of `person 0/0` is not finite"):
        embed(tmp_path / "embedded", TinyFaces(), broken)


def test_ids_that_repeat_are_refused(tmp_path: Path, model: Artefact) -> None:
    faces = TinyFaces()
    faces.ids[9] = faces.ids[2]
    with pytest.raises(OccframeError, match="the id `person 0/2` occurs twice"):
        embed(tmp_path, faces, model)


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_after_ctrl_c_only_the_rest_is_embedded(tmp_path: Path, model: Artefact) -> None:
    whole, _, _ = embed(tmp_path / "whole", TinyFaces(), model, occlusion=RECTANGLES)
    with pytest.raises(Interrupted):
        embed(tmp_path / "half", TinyFaces(), model, occlusion=RECTANGLES, batch_size=4, stop=stop_after(2))
    kept = list(Gallery.open(str(tmp_path / "half")).read().ids)
    assert len(kept) == 12
    faces = CountingFaces()
    resumed, context, _ = embed(tmp_path / "half", faces, model, occlusion=RECTANGLES, batch_size=4)
    assert sorted(faces.asked) == list(range(12, 32))
    assert context.notes == ["12 of 32 faces were embedded before; going on"]
    left, right = (Gallery.open(artefact.url).read() for artefact in (whole, resumed))
    assert list(left.ids) == list(right.ids)
    np.testing.assert_allclose(left.vectors, right.vectors, atol=1e-5)
    assert {**resumed.meta, "content_hash": ""} == {**whole.meta, "content_hash": ""}


def test_a_crash_keeps_what_was_committed(tmp_path: Path, model: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occframe.steps.embed.COMMIT_SECONDS", 0.0)
    with pytest.raises(OSError, match="the disk went away"):
        embed(tmp_path, CountingFaces(stop_after=20), model, batch_size=4, threads=1)
    kept = Gallery.open(str(tmp_path)).count
    assert 4 <= kept <= 20
    faces = CountingFaces()
    artefact, _, _ = embed(tmp_path, faces, model, batch_size=4)
    assert len(faces.asked) == 32 - kept
    assert list(Gallery.open(artefact.url).read().ids) == faces.ids


def test_resuming_where_only_bad_pictures_are_left(tmp_path: Path, model: Artefact) -> None:
    embed(tmp_path, CountingFaces(bad=[3, 17]), model)
    artefact, context, _ = embed(tmp_path, CountingFaces(bad=[3, 17]), model)
    assert (artefact.meta["count"], artefact.meta["quarantined"]) == (30, 2)
    assert any("2 images left out" in note for note in context.notes)


def test_nothing_is_left_to_do(tmp_path: Path, model: Artefact) -> None:
    first, _, _ = embed(tmp_path, TinyFaces(), model)
    faces = CountingFaces()
    again, _, outcome = embed(tmp_path, faces, model)
    assert faces.asked == []
    assert again.meta == first.meta
    assert "images_per_s" not in outcome.metrics


# --- replay -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("occlusion", [RECTANGLES, "blot", None], ids=["rectangles", "blot", "clean"])
def test_replayed_pictures_are_what_the_model_saw(
    tmp_path: Path, model: Artefact, occlusion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, seen = TinyFaces(landmarks=True), []

    def recording(images: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        seen.append(images.clone())
        return to_model_input(images, spec)

    monkeypatch.setattr("occframe.models.to_model_input", recording)
    artefact, context, _ = embed(tmp_path, faces, model, occlusion=occlusion, batch_size=5)
    fed = torch.cat(seen)
    rows = [30, 2, 17, 2, 0]
    replayed = replay_faces(context, artefact, [faces.ids[row] for row in rows])
    assert torch.equal(replayed.images, fed[rows])
    clean = torch.from_numpy(faces.images).permute(0, 3, 1, 2)
    assert replayed.clean is not None
    assert torch.equal(replayed.clean, clean[rows])
    assert replayed.index.tolist() == rows
    assert replayed.landmarks is not None
    if occlusion is None:
        assert replayed.mask is None
        assert torch.equal(replayed.images, replayed.clean)
    else:
        assert replayed.mask is not None
        covered = (replayed.mask > 0).expand_as(replayed.images)
        assert torch.equal(replayed.images[~covered], replayed.clean[~covered])
        assert (replayed.images != replayed.clean).any(dim=1).flatten(1).any(dim=1).all()
    assert replay_faces(context, artefact, []).images.shape == (0, 3, 8, 8)


def test_replaying_other_data_is_refused(tmp_path: Path, model: Artefact) -> None:
    artefact, _, _ = embed(tmp_path / "a", TinyFaces(), model)
    other = embedding(tmp_path / "b", TinyFaces(identities=5), model)
    with pytest.raises(OccframeError, match="`faces` is not the data that `embedded` was made of"):
        replay_faces(other, artefact, ["person 0/0"])
    same = embedding(tmp_path / "b", TinyFaces(), model)
    with pytest.raises(OccframeError, match="`faces` has no picture `nobody`"):
        replay_faces(same, artefact, ["person 0/0", "nobody"])


# --- index and search -------------------------------------------------------------------------------------------------


def index(url: Path, gallery: Artefact, matcher: Any = "torch") -> Artefact:
    context = FakeStepContext(
        url, {"gallery": "g", "matcher": matcher}, IndexConfig, artefacts={"g": gallery}, registry=REGISTRY
    )
    outcome = IndexStep().run(context)
    assert context.bars[0].done == gallery.meta["count"]
    return Artefact("index", "index", str(url), json.loads(json.dumps(outcome.outputs[""])))


def search(url: Path, made: Artefact, k: int, **probes: Artefact) -> tuple[dict[str, Artefact], FakeStepContext]:
    context = FakeStepContext(
        url,
        {"index": "index", "probes": {name: f"p-{name}" for name in probes}, "k": k},
        SearchConfig,
        artefacts={"index": made, **{f"p-{name}": artefact for name, artefact in probes.items()}},
        registry=REGISTRY,
    )
    outcome = SearchStep().run(context)
    assert context.config.outputs() == dict.fromkeys(probes, "hits")
    assert set(outcome.outputs) == set(probes)
    hits = {
        name: Artefact(f"search.{name}", "hits", str(url), json.loads(json.dumps(meta)))
        for name, meta in outcome.outputs.items()
    }
    return hits, context


@pytest.mark.parametrize("matcher", ["torch", "faiss", {"use": "faiss", "profile": "fp16"}], ids=str)
def test_hits_are_those_of_a_sorted_product(
    tmp_path: Path, model: Artefact, matcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occframe.steps.search.QUERIES", 7)
    gallery, _, _ = embed(tmp_path / "g", TinyFaces(), model, dtype="float16")
    occluded, _, _ = embed(tmp_path / "o", TinyFaces(), model, occlusion=RECTANGLES)
    made = index(tmp_path / "index", gallery, matcher)
    assert made.meta["gallery"]["content_hash"] == Gallery.open(gallery.url).content_hash
    found, context = search(tmp_path / "search", made, 6, clean=gallery, occluded=occluded)
    assert context.bars[0].done == 64
    reference = Gallery.open(gallery.url).read()
    for name, artefact in {"clean": gallery, "occluded": occluded}.items():
        probe = Gallery.open(artefact.url).read()
        hits = read_hits(found[name])
        assert hits.probe_ids == list(probe.ids)
        scores = probe.vectors @ reference.vectors.T
        np.testing.assert_allclose(hits.hits.scores, -np.sort(-scores, axis=1)[:, :6], atol=2e-3)
        rows = {name: row for row, name in enumerate(reference.ids)}
        at = np.vectorize(rows.__getitem__)(hits.hits.ids)
        np.testing.assert_allclose(np.take_along_axis(scores, at, 1), hits.hits.scores, atol=2e-3)
    itself = read_hits(found["clean"])
    assert (itself.hits.ids[:, 0] == np.array(itself.probe_ids, object)).all()


def test_more_hits_than_faces(tmp_path: Path, model: Artefact) -> None:
    gallery, _, _ = embed(tmp_path / "g", TinyFaces(identities=2, each=2), model)
    found, context = search(tmp_path / "search", index(tmp_path / "index", gallery), 6, clean=gallery)
    hits = read_hits(found["clean"]).hits
    assert hits.ids.shape == (4, 6)
    assert (hits.ids[:, 4:] == "").all()
    assert np.isneginf(hits.scores[:, 4:]).all()
    assert "k is 6 and 4 faces are enrolled" in context.notes[0]


def test_probes_of_another_model_are_refused(tmp_path: Path, model: Artefact) -> None:
    gallery, _, _ = embed(tmp_path / "g", TinyFaces(), model)
    other, _, _ = embed(tmp_path / "o", TinyFaces(), make_model(tmp_path / "model", seed=1))
    with pytest.raises(OccframeError, match=r"the probes `b` were embedded by model \w+, the index `index` holds"):
        search(tmp_path / "search", index(tmp_path / "index", gallery), 3, a=gallery, b=other)


@pytest.mark.parametrize("matcher", ["torch", {"use": "faiss", "profile": "ivf-rabitq", "lists": 1}], ids=str)
def test_a_gallery_that_changed_is_searched_as_it_is_now(tmp_path: Path, model: Artefact, matcher: Any) -> None:
    gallery, _, _ = embed(tmp_path / "g", TinyFaces(), model)
    probes, _, _ = embed(tmp_path / "p", TinyFaces(), model)
    made = index(tmp_path / "index", gallery, matcher)
    changed = Gallery.open(gallery.url)
    vectors = changed.read().vectors
    changed.delete(["person 0/0"])
    changed.append(["newcomer"], ["new"], vectors[:1], model_fingerprint=changed.fingerprint)
    found = read_hits(search(tmp_path / "search", made, 3, clean=probes)[0]["clean"])
    assert found.hits.ids[0, 0] == "newcomer"
    assert "person 0/0" not in found.hits.ids
    changed.compact()
    with pytest.raises(OccframeError, match="the gallery `embedded` was compacted or replaced since the index `index`"):
        search(tmp_path / "search", made, 3, clean=probes)
    other = Artefact("index", "index", made.url, {**made.meta, "library": "faiss 0.1"})
    with pytest.raises(OccframeError, match=r"was written by faiss 0\.1, this is"):
        search(tmp_path / "search", other, 3, clean=probes)


def test_hits_that_are_missing_or_rubbish(tmp_path: Path) -> None:
    hits = Artefact("search.clean", "hits", str(tmp_path), {"file": "hits-clean.parquet"})
    with pytest.raises(OccframeError, match=r"the hits .*hits-clean.parquet are missing"):
        read_hits(hits)
    (tmp_path / "hits-clean.parquet").write_bytes(b"rubbish")
    with pytest.raises(OccframeError, match=r"hits-clean.parquet is no file of hits"):
        read_hits(hits)


def test_an_interrupted_search_leaves_no_half_file(tmp_path: Path, model: Artefact) -> None:
    gallery, _, _ = embed(tmp_path / "g", TinyFaces(), model)
    made = index(tmp_path / "index", gallery)
    context = FakeStepContext(
        tmp_path / "search",
        {"index": "index", "probes": {"clean": "p"}},
        SearchConfig,
        artefacts={"index": made, "p": gallery},
        registry=REGISTRY,
        stop=lambda: True,
    )
    with pytest.raises(Interrupted):
        SearchStep().run(context)
    assert list((tmp_path / "search").iterdir()) == []


def test_an_empty_gallery_is_searched(tmp_path: Path, model: Artefact) -> None:
    probes, _, _ = embed(tmp_path / "p", TinyFaces(identities=1, each=3), model)
    with GalleryWriter(str(tmp_path / "g"), Gallery.open(probes.url).schema):
        pass
    empty = Artefact("g", "embeddings", str(tmp_path / "g"), {"count": 0})
    found, _ = search(tmp_path / "search", index(tmp_path / "index", empty, "faiss"), 2, clean=probes)
    assert read_hits(found["clean"]).hits.ids.tolist() == [["", ""]] * 3
