"""Steps ``evaluate`` and ``report`` on embeddings that the real embed step made, clean and occluded."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from occframe.component import BackboneBlock, BuildContext
from occframe.errors import Interrupted, OccframeError
from occframe.evaluation.report.pictures import pictures
from occframe.evaluation.results import load_evaluation
from occframe.gallery import Gallery, GalleryWriter, HitsWriter
from occframe.models import save_model
from occframe.step import Artefact, StepOutcome
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.steps.evaluate import EvaluateConfig, EvaluateStep
from occframe.steps.mistake_pictures import mistake_pictures
from occframe.steps.replay import replay_faces
from occframe.steps.report import ReportConfig, ReportStep
from occframe.types import EmbeddingTable, Hits, Mistake
from tests.fakes import FakeStepContext
from tests.tiny import TinyFaces, tiny_registry

REGISTRY = tiny_registry()
HOSTILE = "</script><script>alert(1)</script>.jpg"
OPTIONS: dict[str, Any] = {
    "reference": "clean",
    "probes": {"clean": "clean", "occluded": "occluded"},
    "protocols": [{"use": "verification", "draw": {"genuine": 60, "impostor": 300}}, "identification"],
}


@pytest.fixture(scope="module")
def faces() -> TinyFaces:
    made = TinyFaces(identities=4, each=8)
    made.ids[5] = HOSTILE
    return made


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory, faces: TinyFaces) -> dict[str, Artefact]:
    """A model with random weights, its embeddings of ``faces`` clean and occluded, and a training's log."""
    root = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    block = BackboneBlock.model_validate("tiny", context={"registry": REGISTRY})
    backbone = BuildContext(REGISTRY).build(block)
    (root / "model").mkdir()
    made = {"model": Artefact("model", "model", str(root / "model"), save_model(str(root / "model"), backbone, block))}
    for name, options in (("clean", {}), ("occluded", {"occlusion": "blot"})):
        context = FakeStepContext(
            root / name,
            {"data": "faces", "model": "model", "precision": "fp32"} | options,
            EmbedConfig,
            name=name,
            datasets={"faces": faces},
            artefacts=made,
            registry=REGISTRY,
        )
        outcome = EmbedStep().run(context)
        made[name] = Artefact(name, "embeddings", context.url, outcome.outputs[""])
    log = [
        {"kind": "steps", "step": step, "loss.softmax": 1 / step, "loss": 1 / step, "lr": 0.1} for step in (5, 10, 15)
    ]
    lines = [json.dumps(line) for line in [*log, {"kind": "epoch", "step": 15, "loss": 0.1}]]
    (root / "model" / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "steps", "st']))
    return made


def evaluate(url: Path, artefacts: dict[str, Artefact], **options: Any) -> tuple[FakeStepContext, StepOutcome]:
    context = FakeStepContext(
        url, OPTIONS | options, EvaluateConfig, name="evaluate", artefacts=artefacts, registry=REGISTRY
    )
    return context, EvaluateStep().run(context)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, artefacts: dict[str, Artefact]) -> Artefact:
    context, outcome = evaluate(tmp_path_factory.mktemp("evaluate"), artefacts)
    return Artefact("evaluate", "evaluation", context.url, outcome.outputs[""])


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_every_protocol_is_measured_under_every_condition(tmp_path: Path, artefacts: dict[str, Artefact]) -> None:
    context, outcome = evaluate(tmp_path, artefacts)
    assert outcome.metrics["verification.clean.accuracy"] > outcome.metrics["verification.occluded.accuracy"] > 0.5
    assert {"verification.occluded.tar@far=1e-2", "identification.clean.rank-1"} <= outcome.metrics.keys()
    assert outcome.headlines[0].split() == ["clean", "occluded"]
    assert outcome.headlines[1].startswith("verification accuracy")
    assert " ± " in outcome.headlines[1]
    assert [line.split("  ")[0] for line in outcome.headlines[4:]] == ["identification rank-1", "identification rank-5"]
    assert context.bars[0].done == 4


def test_the_result_reads_back_as_it_was_written(evaluation: Artefact, artefacts: dict[str, Artefact]) -> None:
    loaded = load_evaluation(evaluation.url)
    assert loaded.probes["occluded"].url == artefacts["occluded"].url
    assert loaded.probes["occluded"].meta["occlusion"] == {"use": "blot"}
    clean = loaded.results["verification"]["clean"]
    assert clean.counts == {"genuine pairs": 60, "impostor pairs": 300, "people": 4, "folds": 10}
    assert clean.curves["ROC"].x[0] == clean.curves["ROC"].y[0] == 0
    assert clean.curves["ROC"].x[-1] == clean.curves["ROC"].y[-1] == 1
    assert any("300 impostor pairs say nothing about a FAR below 3.3e-3" in note for note in clean.notes)
    table = Gallery.open(artefacts["clean"].url).read()
    for mistake in clean.mistakes:
        first, second = (table.ids.index(name) for name in (mistake.reference_id, mistake.probe_id))
        assert mistake.score == pytest.approx(float(table.vectors[first] @ table.vectors[second]), abs=1e-5)
        assert (table.subjects[first] == table.subjects[second]) == (mistake.kind == "false reject")
        assert (mistake.score < clean.metrics["threshold@eer"]) == (mistake.kind == "false reject")


def test_both_conditions_score_the_same_pairs(tmp_path: Path, artefacts: dict[str, Artefact]) -> None:
    """32 pictures: 496 pairs, each once, whether the second picture is occluded or not."""
    context, _ = evaluate(tmp_path, artefacts, protocols=["verification", "verification"])
    results = load_evaluation(context.url).results
    assert list(results) == ["verification", "verification-2"]
    for condition in ("clean", "occluded"):
        assert results["verification"][condition].counts == {"genuine pairs": 112, "impostor pairs": 384, "people": 4}
        assert "accuracy" not in results["verification"][condition].metrics


def hits_of(name: str, url: Path, reference: EmbeddingTable, probe: EmbeddingTable, k: int) -> Artefact:
    scores, ids = np.empty((len(probe.ids), k), np.float32), np.empty((len(probe.ids), k), object)
    for row, vector in enumerate(probe.vectors):
        best = sorted(zip(-(reference.vectors @ vector), reference.ids, strict=True))[:k]
        scores[row], ids[row] = [-score for score, _ in best], [found for _, found in best]
    url.mkdir()
    with HitsWriter(str(url / "hits.parquet"), k) as writer:
        writer.write(probe.ids, Hits(scores, ids))
    return Artefact(name, "hits", str(url), {"file": "hits.parquet"})


def test_a_search_gives_what_the_product_gives(tmp_path: Path, artefacts: dict[str, Artefact]) -> None:
    clean, occluded = (Gallery.open(artefacts[name].url).read() for name in ("clean", "occluded"))
    found = {
        "search.clean": hits_of("search.clean", tmp_path / "c", clean, clean, 12),
        "search.occluded": hits_of("search.occluded", tmp_path / "o", clean, occluded, 12),
    }
    hits = {"clean": "search.clean", "occluded": "search.occluded"}
    _, searched = evaluate(tmp_path / "a", artefacts | found, hits=hits, protocols=["identification"])
    _, exact = evaluate(tmp_path / "b", artefacts, protocols=["identification"])
    assert searched.metrics == exact.metrics
    fewer = EmbeddingTable(clean.ids[1:], clean.subjects[1:], clean.vectors[1:])
    found["search.clean"] = hits_of("search.clean", tmp_path / "fewer", clean, fewer, 12)
    with pytest.raises(OccframeError, match=r"`search.clean` are not of the probes"):
        evaluate(tmp_path / "d", artefacts | found, hits=hits)


def test_embeddings_of_two_models_are_refused(tmp_path: Path, artefacts: dict[str, Artefact]) -> None:
    gallery = Gallery.open(artefacts["clean"].url)
    table = gallery.read()
    schema = gallery.schema.model_copy(update={"model_fingerprint": "another"})
    with GalleryWriter(str(tmp_path / "other"), schema) as writer:
        writer.write(table.ids, table.subjects, table.vectors)
    other = Artefact("other", "embeddings", str(tmp_path / "other"), {})
    with pytest.raises(OccframeError, match=r"made by different models: clean by \w+, other by another"):
        evaluate(tmp_path / "e", artefacts | {"other": other}, probes={"clean": "other"})


def test_ctrl_c_stops_between_protocols(tmp_path: Path, artefacts: dict[str, Artefact]) -> None:
    context = FakeStepContext(
        tmp_path, OPTIONS, EvaluateConfig, artefacts=artefacts, registry=REGISTRY, stop=lambda: True
    )
    with pytest.raises(Interrupted):
        EvaluateStep().run(context)
    assert not (tmp_path / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hits": {"clean": "search.clean"}}, "`hits` has the conditions clean, `probes` has clean, occluded"),
        ({"probes": {}}, "at least 1 item"),
        ({"probes": {"a.b": "clean"}}, "should match pattern"),
        ({"protocols": []}, "at least 1 item"),
        ({"protocols": [{"use": "verification", "pairs": "p.txt", "draw": {}}]}, "not both"),
        ({"protocols": [{"use": "verification", "fars": [0]}]}, "greater than 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateConfig.model_validate(OPTIONS | options, context={"registry": REGISTRY})


# --- report -----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What matters of a page: tags with attributes, and the text of scripts and of the rest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(
    url: Path, evaluation: Artefact, artefacts: dict[str, Artefact], data: TinyFaces, **options: Any
) -> tuple[FakeStepContext, Page]:
    context = FakeStepContext(
        url,
        {"evaluation": "evaluate", "models": ["model"], "samples": 5} | options,
        ReportConfig,
        name="report",
        datasets={"faces": data},
        artefacts=artefacts | {"evaluate": evaluation},
        registry=REGISTRY,
        run_info={
            "name": "a <b>bold</b> run",
            "seed": 7,
            "started": "2026-01-02T03:04:05+00:00",
            "config": {"note": "</pre><script>"},
            "versions": {"torch": "2.0"},
        },
    )
    outcome = ReportStep().run(context)
    file = url / "report.html"
    assert outcome.headlines == [f"report: {file}"]
    assert file.stat().st_size < 3_000_000
    return context, Page(file.read_text(encoding="utf-8"))


def test_the_report_needs_no_network(
    tmp_path: Path, evaluation: Artefact, artefacts: dict[str, Artefact], faces: TinyFaces
) -> None:
    _, page = report(tmp_path, evaluation, artefacts, faces)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/jpeg;base64,")), (tag, value)
    style = (tmp_path / "report.html").read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(str(meta["content"]) for meta in page.of("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(page.scripts) == 2
    for script in page.scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_the_report_shows_what_was_measured(
    tmp_path: Path, evaluation: Artefact, artefacts: dict[str, Artefact], faces: TinyFaces
) -> None:
    context, page = report(tmp_path, evaluation, artefacts, faces, title="Tiny faces")
    metrics = load_evaluation(evaluation.url).metrics()
    for name in ("verification.clean.accuracy", "verification.occluded.auc", "identification.occluded.rank-1"):
        assert f"{100 * metrics[name]:.2f}" in page.text
    change = 100 * (metrics["identification.occluded.rank-1"] - metrics["identification.clean.rank-1"])
    assert f"{change:+.2f}".replace("-", "−") in page.text
    assert "2 January 2026, 03:04 UTC" in page.text
    assert "torch" in page.text
    drawn = [attributes for attributes in page.of("div") if attributes.get("class") == "plot"]
    assert [str(plot["aria-label"]).split(".")[0] for plot in drawn] == [
        "Scores, verification",
        "ROC, verification",
        "DET, verification",
        "CMC, identification",
        "Training loss, model",
    ]
    assert context.notes == []
    outlines = page.of("path")
    assert len(outlines) == 2 * 5  # a halo and a line on each sample
    assert all(str(outline["d"]).startswith("M") for outline in outlines)
    pictures = page.of("img")
    assert len(pictures) > 2 * 5
    assert all(picture["alt"] and picture["width"] == "8" for picture in pictures)


def test_tables_can_be_read_aloud(
    tmp_path: Path, evaluation: Artefact, artefacts: dict[str, Artefact], faces: TinyFaces
) -> None:
    _, page = report(tmp_path, evaluation, artefacts, faces)
    assert len(page.of("caption")) == len(page.of("table")) == 3
    assert all(heading.get("scope") in ("col", "row") for heading in page.of("th"))
    assert page.of("html")[0]["lang"] == "en"


def test_text_of_strangers_stays_text(
    tmp_path: Path, evaluation: Artefact, artefacts: dict[str, Artefact], faces: TinyFaces
) -> None:
    _, page = report(tmp_path, evaluation, artefacts, faces)
    listed = [mistake for of in load_evaluation(evaluation.url).results.values() for mistake in of["occluded"].mistakes]
    assert any(HOSTILE in (mistake.reference_id, mistake.probe_id) for mistake in listed)
    assert HOSTILE in page.text
    assert "a <b>bold</b> run" in page.text
    assert "</pre><script>" in page.text
    assert not any("alert(1)" in script for script in page.scripts)
    assert not page.of("b")


def test_people_can_be_left_out(
    tmp_path: Path, evaluation: Artefact, artefacts: dict[str, Artefact], faces: TinyFaces
) -> None:
    _, page = report(tmp_path, evaluation, artefacts, faces, faces=False)
    assert not page.of("img")
    assert not page.of("svg")
    assert "Worst mistakes" in page.text


def test_pictures_that_are_gone_are_no_reason_to_fail(
    tmp_path: Path, evaluation: Artefact, artefacts: dict[str, Artefact]
) -> None:
    context, page = report(tmp_path, evaluation, artefacts, TinyFaces(identities=3))
    assert "Pictures are left out: `faces` is not the data that `occluded` was made of" in page.text
    assert context.notes
    assert not page.of("img")


def test_mistakes_among_a_gallery_of_a_condition_and_among_distractors(
    tmp_path: Path, artefacts: dict[str, Artefact], faces: TinyFaces
) -> None:
    """Each face is shown as it was embedded: enrolled under the condition, or from the data of the distractors."""
    strangers = TinyFaces(identities=2, each=2)  # who look like two of the others
    strangers.ids[:] = [f"s-{name}" for name in strangers.ids]
    data: dict[str, Any] = {"faces": faces, "strangers": strangers}
    embedding = FakeStepContext(
        tmp_path / "strangers",
        {"data": "strangers", "model": "model", "precision": "fp32", "occlusion": "blot"},
        EmbedConfig,
        datasets=data,
        artefacts=artefacts,
        registry=REGISTRY,
    )
    meta = EmbedStep().run(embedding).outputs[""]
    known = artefacts | {"strangers": Artefact("strangers", "embeddings", embedding.url, meta)}
    context, _ = evaluate(
        tmp_path / "evaluate",
        known,
        reference="occluded",
        references={"occluded": "clean"},
        distractors="strangers",
        protocols=["identification"],
    )
    evaluation = load_evaluation(context.url)
    among = [*evaluation.results["identification"]["occluded"].mistakes]
    assert among
    assert all(mistake.reference_id.startswith("distractor/s-") for mistake in among)
    mistakes = [*among, Mistake("false reject", faces.ids[0], faces.ids[1], 0.5)]
    reporting = FakeStepContext(
        tmp_path, {"evaluation": "evaluate"}, ReportConfig, datasets=data, artefacts=known, registry=REGISTRY
    )
    found, problems = mistake_pictures(reporting, evaluation, {"occluded": mistakes})
    assert problems == []
    for mistake in mistakes:
        shown = found["occluded", "reference", mistake.reference_id]
        stranger = mistake in among
        name = mistake.reference_id.removeprefix("distractor/") if stranger else mistake.reference_id
        embedded = known["strangers" if stranger else "clean"]
        assert [shown] == pictures([name], replay_faces(reporting, embedded, [name]).images)
    known["strangers"] = Artefact("strangers", "embeddings", embedding.url, {})
    without = replace(evaluation, distractors=known["strangers"])
    fewer, problems = mistake_pictures(reporting, without, {"occluded": mistakes})
    assert problems == ["`strangers` does not say which pictures it was made of"]
    assert found.keys() - fewer.keys() == {("occluded", "reference", mistake.reference_id) for mistake in among}


def test_an_evaluation_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OccframeError, match="no evaluation at"):
        load_evaluation(str(tmp_path))
    (tmp_path / "evaluation.json").write_text('{"format": 9}')
    with pytest.raises(OccframeError, match="has format 9"):
        load_evaluation(str(tmp_path))
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(OccframeError, match="is damaged"):
        load_evaluation(str(tmp_path))
