"""Glasses removal through the steps: restore, embed with removal, fused search, and what galleries say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occframe.component import BackboneBlock, BuildContext, GeneratorBlock
from occframe.data import ParquetFaces, decode
from occframe.errors import Interrupted, OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter, read_hits
from occframe.gallery.fusion import fuse_scores, fused_search
from occframe.generators import save_generator
from occframe.marking import synthesised_comment
from occframe.models import save_model
from occframe.standalone import parse_block
from occframe.step import Artefact
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.steps.index import IndexConfig, IndexStep
from occframe.steps.replay import replay_faces
from occframe.steps.restore import RestoreConfig, RestoreStep
from occframe.steps.search import SearchConfig, SearchStep
from occframe.types import ImageSpec
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import tiny_registry

REGISTRY = tiny_registry()
BUILD = BuildContext(REGISTRY)
SIZE = 112
CARRIED = {"age": np.arange(6) + 20, "town": np.array(["A", "B", "A", "B", "A", "B"], object)}


class Faces:
    """Six pictures of three people; fulfils ``Dataset``."""

    def __init__(self, size: int = SIZE) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (6, size, size, 3)).astype(np.uint8)
        self.subjects = [f"person {number // 2}" for number in range(6)]
        self.ids = [f"{subject}/{number}" for number, subject in enumerate(self.subjects)]
        self.landmarks = None
        self.attributes = dict(CARRIED)
        self.blocks = [range(6)]
        self.aligned = True

    def read(self, rows: Any) -> list[bytes | np.ndarray]:
        return [self.images[row] for row in rows]

    def fingerprint(self) -> str:
        return "six faces"


def recogniser(folder: Path, verdict: str) -> Artefact:
    """Says the same of every face."""
    block = parse_block(BackboneBlock, {"use": "glasses-recogniser", "width": 4}, BUILD)
    network = BUILD.build(block)
    network.head[1].weight.data.zero_()
    network.head[1].bias.data = torch.tensor([verdict == name for name in ("none", "eyeglasses", "sunglasses")]) * 9.0
    return Artefact(verdict, "model", str(folder), save_model(str(folder), network, block))


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    block = parse_block(GeneratorBlock, {"use": "cse", "size": 112, "width": 4, "blocks": 1}, BUILD)
    made = save_generator(str(folder / "generator"), BUILD.build(block), block)
    tiny = parse_block(BackboneBlock, {"use": "tiny"}, BUILD)
    embedder = save_model(str(folder / "embedder"), BUILD.build(tiny), tiny)
    found = {name: recogniser(folder / name, name) for name in ("none", "eyeglasses", "sunglasses")}
    return found | {
        "generator": Artefact("generator", "generator", str(folder / "generator"), made),
        "embedder": Artefact("embedder", "model", str(folder / "embedder"), embedder),
    }


def restoring(url: Path, artefacts: Any, faces: Any = None, stop: Any = lambda: False, **options: Any) -> Any:
    return FakeStepContext(
        url,
        {"data": "faces", "generator": "generator", "precision": "fp32", "batch_size": 4} | options,
        RestoreConfig,
        name="restored",
        datasets={"faces": faces or Faces()},
        artefacts=artefacts,
        registry=REGISTRY,
        stop=stop,
    )


def restored(context: Any) -> tuple[ParquetFaces, Any]:
    outcome = RestoreStep().run(context)
    return ParquetFaces(f"{context.url}/faces.parquet"), outcome


# --- step restore -----------------------------------------------------------------------------------------------------


def test_faces_without_glasses_come_out_bit_by_bit(tmp_path: Path, artefacts: Any) -> None:
    made, outcome = restored(restoring(tmp_path, artefacts, recogniser="none"))
    pictures = made.read(range(6))
    assert [np.array_equal(decode(picture), image) for picture, image in zip(pictures, Faces().images, strict=True)]
    assert all(synthesised_comment(picture) is None for picture in pictures)
    assert not made.attributes["synthesised"].any()
    assert made.attributes["removal"].tolist() == ["no glasses"] * 6
    assert made.attributes["glasses_probability"].max() < 0.01
    assert outcome.outputs[""]["outcomes"] == {"no glasses": 6}
    assert made.aligned


def test_what_was_removed_is_marked_and_described(tmp_path: Path, artefacts: Any) -> None:
    made, outcome = restored(restoring(tmp_path, artefacts))
    pictures = made.read(range(6))
    assert not any(
        np.array_equal(decode(picture), image) for picture, image in zip(pictures, Faces().images, strict=True)
    )
    assert all("synthesised" in str(synthesised_comment(picture)) for picture in pictures)
    assert made.attributes["synthesised"].all()
    assert outcome.metrics == {"removed": 6.0}
    assert made.ids == Faces().ids
    assert made.subjects == Faces().subjects
    assert made.attributes["age"].tolist() == CARRIED["age"].tolist()
    assert made.attributes["town"].tolist() == CARRIED["town"].tolist()
    assert set(made.attributes["treatment"].tolist()) == {outcome.outputs[""]["treatment"]}


def test_where_glasses_stay_the_original_goes_on(tmp_path: Path, artefacts: Any) -> None:
    made, outcome = restored(restoring(tmp_path, artefacts, recogniser="eyeglasses"))
    assert outcome.outputs[""]["outcomes"] == {"still glasses": 6}
    assert np.array_equal(decode(made.read([3])[0]), Faces().images[3])
    assert not made.attributes["synthesised"].any()


def test_sunglasses_are_refused_where_asked(tmp_path: Path, artefacts: Any) -> None:
    options = {"recogniser": "sunglasses", "refuse_sunglasses": True}
    made, _ = restored(restoring(tmp_path, artefacts, **options))
    assert made.attributes["removal"].tolist() == ["refused sunglasses"] * 6


def test_a_stopped_restoration_goes_on(tmp_path: Path, artefacts: Any) -> None:
    with pytest.raises(Interrupted):
        restored(restoring(tmp_path / "stopped", artefacts, stop=stop_after(1)))
    stopped, _ = restored(restoring(tmp_path / "stopped", artefacts))
    whole, _ = restored(restoring(tmp_path / "whole", artefacts))
    assert stopped.read(range(6)) == whole.read(range(6))


def test_a_model_that_is_no_glasses_recogniser(tmp_path: Path, artefacts: Any) -> None:
    with pytest.raises(OccframeError, match="tiny` does not say whether a face wears glasses"):
        restored(restoring(tmp_path, artefacts, recogniser="embedder"))


# --- embed and search -------------------------------------------------------------------------------------------------


def embedded(url: Path, artefacts: Any, faces: Any = None, **options: Any) -> tuple[Artefact, FakeStepContext]:
    context = FakeStepContext(
        url,
        {"data": "faces", "model": "embedder", "precision": "fp32", "dtype": "float32"} | options,
        EmbedConfig,
        name=url.name,
        datasets={"faces": faces or Faces()},
        artefacts=artefacts,
        registry=REGISTRY,
    )
    outcome = EmbedStep().run(context)
    return Artefact(url.name, "embeddings", str(url), outcome.outputs[""]), context


def test_embedding_with_removal_is_embedding_what_was_restored(tmp_path: Path, artefacts: Any) -> None:
    faces = Faces(8)  # the size that the tiny recogniser sees
    removal = {"generator": "generator", "least_identity": -1}
    inside, context = embedded(tmp_path / "inside", artefacts, faces, removal=removal)
    step = restoring(tmp_path / "restored", artefacts, faces, height=8, width=8)
    made, outcome = restored(step)
    outside, _ = embedded(tmp_path / "outside", artefacts, made)
    plain, _ = embedded(tmp_path / "plain", artefacts, faces)
    tables = {name: Gallery.open(item.url).read().vectors for name, item in
              {"inside": inside, "outside": outside, "plain": plain}.items()}  # fmt: skip
    assert np.allclose(tables["inside"], tables["outside"], atol=1e-6)
    assert not np.allclose(tables["inside"], tables["plain"], atol=1e-3)

    for item in (inside, outside):
        columns = next(Gallery.open(item.url).iter_batches(columns=["synthesised", "removal"])).columns
        assert columns["synthesised"].tolist() == [True] * 6
        assert columns["removal"].tolist() == ["removed"] * 6
    assert Gallery.open(outside.url).schema.treatment == {"glasses": outcome.outputs[""]["treatment"]}
    assert Gallery.open(plain.url).schema.treatment == {}
    seen = replay_faces(context, inside, list(made.ids)).images
    assert [np.array_equal(decode(item), image.permute(1, 2, 0).numpy())
            for item, image in zip(made.read(range(6)), seen, strict=True)] == [True] * 6  # fmt: skip


def test_a_result_that_is_somebody_else_is_not_embedded(tmp_path: Path, artefacts: Any) -> None:
    faces = Faces(8)
    removal = {"generator": "generator", "least_identity": 1.0}
    guarded, _ = embedded(tmp_path / "guarded", artefacts, faces, removal=removal)
    plain, _ = embedded(tmp_path / "plain", artefacts, faces)
    batch = next(Gallery.open(guarded.url).iter_batches(columns=["removal", "identity_kept"]))
    assert batch.columns["removal"].tolist() == ["identity lost"] * 6
    assert (batch.columns["identity_kept"] < 1).all()
    assert np.allclose(batch.vectors, Gallery.open(plain.url).read().vectors)


def gallery(url: Path, vectors: np.ndarray, ids: list[str], treatment: dict[str, str]) -> Artefact:
    schema = GallerySchema(
        dim=vectors.shape[1], dtype="float32", model_fingerprint="model", image_spec=ImageSpec(), treatment=treatment
    )
    with GalleryWriter(str(url), schema) as writer:
        writer.write(ids, ids, vectors)
    return Artefact(url.name, "embeddings", str(url), {})


def unit(seed: int, count: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def searching(tmp_path: Path, made: dict[str, Artefact], **options: Any) -> tuple[Any, FakeStepContext]:
    context = FakeStepContext(
        tmp_path / "index", {"gallery": "enrolled", "matcher": "torch"}, IndexConfig, artefacts=made
    )
    made = made | {"index": Artefact("index", "index", context.url, IndexStep().run(context).outputs[""])}
    found = FakeStepContext(
        tmp_path / "search", {"index": "index", "k": 4} | options, SearchConfig, name="found", artefacts=made
    )
    return SearchStep().run(found), found


@pytest.fixture
def galleries(tmp_path: Path) -> dict[str, Artefact]:
    names = [f"probe {number}" for number in range(5)]
    return {
        "enrolled": gallery(tmp_path / "enrolled", unit(0, 9), [f"face {number}" for number in range(9)], {}),
        "after": gallery(tmp_path / "after", unit(1, 5), names, {"glasses": "cse-1"}),
        "before": gallery(tmp_path / "before", unit(2, 5)[::-1].copy(), names[::-1], {}),
    }


@pytest.mark.parametrize("how", ["removed", "original", "max", "mean"])
def test_fused_hits_are_those_of_all_scores(tmp_path: Path, galleries: dict[str, Artefact], how: Any) -> None:
    outcome, context = searching(
        tmp_path, galleries, probes={"glasses": "after"}, original={"glasses": "before"}, fusion=how
    )
    found = read_hits(Artefact("found.glasses", "hits", context.url, outcome.outputs["glasses"]))
    removed, original = unit(1, 5) @ unit(0, 9).T, unit(2, 5) @ unit(0, 9).T
    scores = fuse_scores(removed, original, how)
    order = np.argsort(-scores, axis=1)[:, :4]
    assert np.allclose(found.hits.scores, np.take_along_axis(scores, order, 1), atol=1e-6)
    assert found.hits.ids.tolist() == [[f"face {at}" for at in row] for row in order]
    assert found.probe_ids == [f"probe {number}" for number in range(5)]


def test_fusing_where_fewer_faces_are_enrolled_than_asked_for(galleries: dict[str, Artefact]) -> None:
    from occframe.component import MatcherBlock

    matcher = BUILD.build(parse_block(MatcherBlock, {"use": "torch"}, BUILD), embedding_dim=6)
    matcher.add(["a", "b"], unit(0, 2))
    for how in ("max", "mean"):
        hits = fused_search(matcher, unit(1, 3), unit(2, 3), 4, how)  # type: ignore[arg-type]
        assert (hits.ids[:, 2:] == "").all()
        assert np.isneginf(hits.scores[:, 2:]).all()
        assert sorted(hits.ids[0, :2]) == ["a", "b"]


def test_unlike_treatment_is_told_or_refused(tmp_path: Path, galleries: dict[str, Artefact]) -> None:
    _, context = searching(tmp_path / "warned", galleries, probes={"glasses": "after"})
    assert any("glasses removed by cse-1" in note and "nothing removed" in note for note in context.notes)
    with pytest.raises(OccframeError, match="had glasses removed by cse-1"):
        searching(tmp_path / "refused", galleries, probes={"glasses": "after"}, treatment="refuse")
    _, alike = searching(tmp_path / "alike", galleries | {"enrolled": galleries["after"]}, probes={"glasses": "after"})
    assert not any("removed" in note for note in alike.notes)


def test_originals_that_are_not_those_of_the_probes(tmp_path: Path, galleries: dict[str, Artefact]) -> None:
    others = galleries | {"before": galleries["enrolled"]}
    with pytest.raises(OccframeError, match="originals of the probes `glasses` lack `probe 0`"):
        searching(tmp_path, others, probes={"glasses": "after"}, original={"glasses": "before"})
    with pytest.raises(ValueError, match="`original` has the condition clean"):
        searching(tmp_path / "x", galleries, probes={"glasses": "after"}, original={"clean": "before"})
