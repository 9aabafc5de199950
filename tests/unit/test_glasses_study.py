"""The study of glasses removal: nobody in two parts, rows that differ in what they are about, figures that add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import glasses_cutouts, glasses_study
from benchmarks.glasses_data import is_test, parts
from benchmarks.glasses_paired import PairedTest, gains, telea
from benchmarks.glasses_real import RealPairs, figures, measured
from benchmarks.glasses_recipes import ABLATIONS, ROWS, merged, pipeline, recogniser_pipeline, rows_for
from benchmarks.glasses_wearers import choose
from occframe.bench.suite import expand, load_suite
from occframe.component import BackboneBlock, BuildContext, DatasetBlock
from occframe.config import load_pipeline
from occframe.data import FaceParquetWriter
from occframe.models import load_model, save_model
from occframe.plugins import PluginRegistry
from occframe.types import EmbeddingTable
from occframe.yamlfile import dump_yaml, parse_yaml, read_yaml

REGISTRY = PluginRegistry.discover(environ={})
BUILD = BuildContext(REGISTRY)


def remover(row: str, device: str = "cpu"):
    written = pipeline(row, shared=Path("shared"), data=Path("data"), runs=Path("runs"), seed=1, device=device)
    return load_pipeline(parse_yaml(dump_yaml(written), row), REGISTRY).steps["refined"].config


# --- who learns and who is measured -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 30).map(str), st.booleans()), max_size=80))
def test_nobody_is_in_two_parts(faces):
    identities, worn = [name for name, _ in faces], [glasses for _, glasses in faces]
    rows = parts(identities, worn)
    train = {identities[row] for row in rows["train"]}
    paired_test = {identities[row] for row in rows["bare-test"]}
    real = {identities[row] for row in (*rows["real-worn"], *rows["real-bare"])}
    assert not train & paired_test
    assert not train & real
    assert not paired_test & real
    assert sorted(rows["train"]) == sorted(rows["bare-train"] + rows["worn-train"])
    assert all(worn[row] for row in rows["real-worn"] + rows["worn-train"])
    assert not any(worn[row] for row in rows["real-bare"] + rows["bare-train"] + rows["bare-test"])


def test_the_split_follows_the_identity_alone():
    share = np.mean([is_test(str(number)) for number in range(4000)])
    assert 0.12 < share < 0.18


def test_what_is_cut_out_is_what_was_put_on(monkeypatch):
    """Faces of a few shades each; the same with dark rims and, every fourth, dark lenses."""
    for name, value in {"COMPONENTS": 12, "FEW": 6, "USUAL": 40}.items():
        monkeypatch.setattr(glasses_cutouts, name, value)
    random = np.random.default_rng(1)
    y, x = np.mgrid[:112, :112] / 112
    shades = np.stack([np.ones_like(x), x, y, np.cos(6 * x), np.cos(6 * y)])
    brightness = 140 + np.einsum("nk,kyx->nyx", random.normal(size=(68, 5)) * 9, shades)
    bare = np.repeat((brightness + random.normal(size=brightness.shape) * 2)[..., None], 3, 3)
    put_on, dark = np.zeros((8, 112, 112), bool), np.arange(8) % 4 == 0
    for number, mask in enumerate(put_on):
        rims = mask.astype(np.uint8)
        for centre in (38, 74):
            cv2.ellipse(rims, (centre, 52), (14, 10), 0, 0, 360, 1, -1 if dark[number] else 3)
        mask |= cv2.line(rims, (52, 50), (60, 50), 1, 3) > 0
    worn = np.where(put_on[..., None], 25, bare[:8])
    bytes_of = lambda faces: torch.from_numpy(faces.clip(0, 255).astype(np.uint8))  # noqa: E731
    found = glasses_cutouts.opacities(bytes_of(worn), bytes_of(bare[8:]), dark) > 0.5
    for mask, truth in zip(found, put_on, strict=True):
        assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_wearers_are_people_with_and_without_eyeglasses():
    people = ["a", "a", "a", "b", "b", "c", "d", "d", "e", "e", *"ffffffffffffffffffff"]
    glasses = np.array([0.9, 0.0, 0.1, 0.9, 0.01, 0.9, 0.9, 0.1, 0.9, 0.0, *[0.9] * 8, *[0.0] * 12])
    sunglasses = np.array([0.0, 0, 0, 0.9, 0, 0, 0, 0, 0, 0, *[0.1] * 20])
    found = choose(people, glasses, sunglasses, left_out={"e"})
    # b wears sunglasses, c is never without, d not surely so, e is measured; of f only some.
    assert found == {"worn": [0, *range(10, 16)], "bare": [1, *range(18, 28)]}


# --- what is trained --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_a_valid_pipeline(row):
    unpaired = row in ("unpaired", "real")
    step = remover(row)
    if row in rows_for("cpu"):
        assert (step.generator.config.width, step.generator.config.blocks) == (16, 4)
        assert step.batch_size == (32 if unpaired else 16)
    assert (step.mode == "unpaired") == unpaired


@pytest.mark.parametrize("row", ROWS)
def test_a_gpu_trains_the_reference_network_but_for_ablations(row):
    config = remover(row, "cuda").generator.config
    assert (config.width, config.blocks) == ((16, 4) if row in {"quick", *ABLATIONS} else (32, 6))


def test_rows_differ_in_what_they_are_about():
    assert remover("paired-blend").generator.config.blend
    assert not remover("paired").generator.config.blend
    assert remover("se-off").generator.config.se == "none"
    assert remover("r-4").generator.config.reduction == 4
    assert remover("feature-off").feature.weight == 0
    assert remover("pixel-masked").pixel.inside == 0
    assert remover("pixel-plain").pixel.inside == 1
    assert remover("bce").adversarial.loss == "bce"
    assert {remover(row).iterations for row in ABLATIONS} == {250}
    assert "short" in ABLATIONS
    assert remover("wearers").wearers.data == "wearers-worn"
    assert remover("wearers").camera_probability > 0.5
    assert remover("cut-outs").wearers is None


def test_changes_are_merged_and_none_takes_away():
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merged(base, {"a": {"b": 5}, "d": None}) == {"a": {"b": 5, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


def test_the_recogniser_of_glasses_learns_from_the_same_people():
    written = recogniser_pipeline(data=Path("data"), runs=Path("runs"), seed=1)
    assert (
        load_pipeline(parse_yaml(dump_yaml(written), "glasses"), REGISTRY)
        .config.data["faces"]
        .config.url.endswith("train.parquet")
    )


def test_the_suite_measures_glasses_on_one_side_none_and_both():
    suite = load_suite(read_yaml(glasses_study.HERE / "suites" / "glasses.yaml"), REGISTRY)
    sides = {name: (str(trial.data), str(trial.reference or trial.data)) for name, trial in suite.trials.items()}
    assert sides == {"glasses": ("worn", "bare"), "clean": ("bare", "bare"), "both": ("worn", "worn")}


def test_a_system_of_a_suite_may_embed_in_its_own_way():
    text = """\
name: s
run_dir: r
data: {faces: synthetic}
systems:
  plain: {backbone: mobilefacenet, weights: w}
  grey: {backbone: mobilefacenet, weights: w, embed: {grey: true, batch_size: 8}}
trials: {all: {data: faces, protocol: verification}}
embed: {batch_size: 4}
"""
    steps = expand(load_suite(parse_yaml(text, "suite.yaml"), REGISTRY), "suite.yaml", REGISTRY).config.steps
    found = {step.config.model: (step.config.grey, step.config.batch_size) for step in steps if step.use == "embed"}
    assert found == {"model-plain": (False, 4), "model-grey": (True, 8)}


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def test_of_pairs(tmp_path_factory) -> PairedTest:
    folder = tmp_path_factory.mktemp("pairs")
    faces = BUILD.build(
        DatasetBlock.model_validate({"use": "synthetic", "identities": 3, "images": 2}, context={"registry": REGISTRY})
    )
    with FaceParquetWriter(str(folder / "faces.parquet"), aligned=True) as writer:
        for row, image in enumerate(faces.read(range(6))):
            writer.add(faces.ids[row], faces.subjects[row], image, faces.landmarks[row])
    models = {}
    for name, options in {"evaluator": {"use": "mobilefacenet"}, "detector": {"use": "glasses-recogniser"}}.items():
        block = BackboneBlock.model_validate(options, context={"registry": REGISTRY})
        save_model(str(folder / name), BUILD.build(block), block)
        models[name] = load_model(str(folder / name), BUILD, purpose="explain")
    return PairedTest(folder / "faces.parquet", folder / "cells", BUILD, **models)


def test_a_cell_is_measured_once(test_of_pairs, monkeypatch):
    before = test_of_pairs.cell("no-removal", "opaque", None)
    assert before["faces"] == 6
    assert before["people"] == 3
    assert all(low <= value <= high for value, low, high in (before[name] for name in ("psnr_inside", "identity")))
    assert before["psnr_outside"][0] == 100  # not a pixel changed
    monkeypatch.setattr(PairedTest, "_measure", lambda *_: pytest.fail("measured again"))
    assert test_of_pairs.cell("no-removal", "opaque", None) == before


def test_the_truth_is_perfect_and_telea_sees_only_the_mask(test_of_pairs):
    truth = torch.cat([item.clean for item in test_of_pairs.worn("clear")])
    perfect = test_of_pairs.cell("truth", "clear", lambda images, mask: truth)
    assert (perfect["psnr_inside"][0], perfect["ssim"][0]) == (100, 1)
    assert perfect["identity"][0] == pytest.approx(1, abs=1e-3)
    (worn,) = test_of_pairs.worn("opaque")
    made = telea(worn.images, worn.inside)
    grown = torch.nn.functional.max_pool2d(worn.inside.float(), 3, 1, 1) > 0
    assert torch.equal(made.masked_fill(grown, 0), worn.images.masked_fill(grown, 0))
    cells = {
        name: {"opaque": test_of_pairs.cell(name, "opaque", way)} for name, way in (("none", None), ("telea", telea))
    }
    assert gains(cells, "none")["telea"]["opaque.psnr_inside"] > 3


def test_without_glasses_everything_is_inside(test_of_pairs):
    (worn,) = test_of_pairs.worn("none")
    assert torch.equal(worn.images, worn.clean)
    assert worn.inside.all()


def table(vectors: np.ndarray, subjects: list[str]) -> EmbeddingTable:
    normalised = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return EmbeddingTable([f"{at}" for at in range(len(subjects))], subjects, normalised.astype(np.float32))


def people(glasses: float, count: int = 30) -> tuple[EmbeddingTable, EmbeddingTable]:
    """Two faces of each with and without; ``glasses`` is how strongly they make wearers alike."""
    draw = np.random.default_rng(0)
    who = draw.normal(size=(count, 16)).repeat(2, axis=0)
    subjects = [f"p{at // 2}" for at in range(2 * count)]
    worn = who + 0.4 * draw.normal(size=who.shape) + glasses
    bare = table(who + 0.4 * draw.normal(size=who.shape), subjects)
    return table(worn, subjects), replace(bare, ids=[f"bare {name}" for name in bare.ids])


def test_taking_off_what_makes_strangers_alike_shows_in_every_figure():
    found = measured({"before": people(1.5), "after": people(0.0)}, "before")
    after = found["after"]["removed"]
    assert after["genuine_change"][0] > 0.1
    assert after["genuine_change"][1] > 0  # beyond what other people would change
    assert after["both_impostor_change"][2] < 0
    assert after["both_false_accepts_change"][2] < 0
    assert found["after"]["max"]["genuine"][0] >= after["genuine"][0]
    assert list(found["before"]) == ["removed"]
    assert found["before"]["removed"]["tar_change"] == [0, 0, 0]
    assert found["before"]["removed"]["harmed"] == [0, 0, 0]


def test_the_rate_is_what_its_threshold_lets_through():
    worn, bare = people(1.0)
    pairs = RealPairs.of(worn, bare)
    scores = pairs.scores(worn, bare)
    assert (len(scores.genuine), len(scores.impostor), len(scores.both)) == (120, 3480, 1740)
    impostors = np.sort(scores.impostor)[::-1]
    threshold = impostors[int(0.01 * len(impostors))]
    weights = pairs.weights(np.ones(pairs.people))
    assert scores.threshold(weights) == threshold
    assert figures(scores, scores, weights)["tar"] == pytest.approx((scores.genuine > threshold).mean())


def test_a_picture_makes_no_pair_with_itself():
    """Glasses put on a face: the same picture is on both sides."""
    worn, bare = people(1.0)
    scores = RealPairs.of(worn, replace(bare, ids=worn.ids)).scores(worn, bare)
    assert (len(scores.genuine), len(scores.impostor)) == (60, 3480)


def test_a_person_drawn_twice_counts_as_two():
    worn, bare = people(1.0, count=6)
    pairs = RealPairs.of(worn, bare)
    times = np.array([2.0, 0, 1, 1, 1, 1])
    weights = pairs.weights(times)
    assert weights.genuine.sum() == 4 * times.sum()
    assert weights.impostor.sum() == 4 * (times.sum() ** 2 - (times**2).sum())
    assert weights.both.sum() == 4 * (times.sum() ** 2 - (times**2).sum()) / 2
