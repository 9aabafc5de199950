"""Step ``sweep`` and what ``evaluate`` has for it: other galleries, distractors, groups, severities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from occframe import hookimpl
from occframe.component import BackboneBlock, BuildContext, Config
from occframe.errors import Interrupted, OccframeError
from occframe.evaluation.results import load_evaluation
from occframe.gallery import Gallery
from occframe.models import save_model
from occframe.plugins import Register
from occframe.step import Artefact
from occframe.steps.evaluate import EvaluateConfig, EvaluateStep
from occframe.steps.sweep import SweepConfig, SweepStep
from occframe.types import FaceBatch, Occluded
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import TinyFaces, tiny_registry


class CurtainConfig(Config):
    severity: float = Field(0.5, ge=0, le=1)
    span: tuple[float, float] = (0.0, 0.5)


class Curtain:
    """Blackens the upper ``severity`` of each picture."""

    def __init__(self, config: CurtainConfig, context: BuildContext) -> None:
        self.severity = config.severity

    def sample(self, batch: FaceBatch, seeds: Tensor) -> dict[str, Tensor]:
        return {"rows": torch.full((len(seeds),), self.severity * batch.images.shape[2])}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Occluded:
        mask = (torch.arange(images.shape[2])[None] < params["rows"][:, None]).float()
        mask = mask[:, None, :, None].expand(-1, 1, -1, images.shape[3]).contiguous()
        return Occluded(torch.where(mask > 0, torch.zeros_like(images), images), mask)


class Curtains:
    @hookimpl
    def occframe_register_occlusions(self, register: Register) -> None:
        register("curtain", Curtain, config=CurtainConfig, summary="a curtain")


REGISTRY = tiny_registry()
REGISTRY.register(Curtains(), name="curtains", distribution="curtains")
OPTIONS: dict[str, Any] = {
    "data": "faces",
    "model": "model",
    "precision": "fp32",
    "occlusions": {"curtain": "curtain"},
    "values": [0.25, 0.75],
    "protocols": ["verification", {"use": "identification", "rounds": 20}],
}


@pytest.fixture(scope="module")
def faces() -> TinyFaces:
    made = TinyFaces(identities=4, each=6)
    made.attributes = {"glasses": np.array([row % 2 == 0 for row in range(24)])}  # type: ignore[misc]
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    where = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    block = BackboneBlock.model_validate("tiny", context={"registry": REGISTRY})
    return Artefact("model", "model", str(where), save_model(str(where), BuildContext(REGISTRY).build(block), block))


def context(where: Path, faces: TinyFaces, model: Artefact, **options: Any) -> FakeStepContext:
    stop = options.pop("stop", lambda: False)
    return FakeStepContext(
        where,
        OPTIONS | options,
        SweepConfig,
        name="sweep",
        datasets={"faces": faces, "more": TinyFaces(identities=6, each=3)},
        artefacts={"model": model},
        registry=REGISTRY,
        stop=stop,
    )


def test_figures_over_severity_on_every_side(tmp_path: Path, faces: TinyFaces, model: Artefact) -> None:
    work = context(tmp_path, faces, model, sides=["probe", "gallery", "both"])
    outcome = SweepStep().run(work)
    found = load_evaluation(work.url)
    assert [(sweep.name, sweep.side, [value for value, _ in sweep.points]) for sweep in found.sweeps] == [
        ("curtain", "probe", [0.25, 0.75]),
        ("curtain-gallery", "gallery", [0.25, 0.75]),
        ("curtain-both", "both", [0.25, 0.75]),
    ]
    assert list(found.probes) == [
        "clean",
        *(f"curtain-0_{value}{side}" for side in ("", "-gallery", "-both") for value in (25, 75)),
    ]
    assert found.probes["curtain-0_75"].url == found.references["curtain-0_75-gallery"].url
    assert found.probes["curtain-0_75-gallery"].url == found.reference_of("clean").url
    assert "curtain-0_75" not in found.references
    # Three embeddings serve seven conditions.
    assert sorted(path.name for path in (tmp_path / "embeddings").iterdir()) == [
        "clean",
        "curtain-0_25",
        "curtain-0_75",
    ]
    curves = found.sweep_curves("verification", "auc")
    assert curves["curtain"].x.tolist() == [0.25, 0.75]
    assert curves["curtain"].y.tolist() == [
        outcome.metrics[f"verification.curtain-0_{value}.auc"] for value in (25, 75)
    ]
    clean, covered = (Gallery.open(f"{work.url}/embeddings/{name}").read() for name in ("clean", "curtain-0_75"))
    assert not np.allclose(clean.vectors, covered.vectors)


def test_what_was_embedded_is_not_embedded_again(tmp_path: Path, faces: TinyFaces, model: Artefact) -> None:
    with pytest.raises(Interrupted):
        SweepStep().run(context(tmp_path, faces, model, stop=stop_after(3)))
    assert (tmp_path / "embeddings" / "clean" / "finished.json").exists()
    again = context(tmp_path, faces, model)
    SweepStep().run(again)
    assert [
        bar.description for bar in again.bars if "embedding" in bar.description and "clean" in bar.description
    ] == []
    assert load_evaluation(again.url).results["verification"].keys() == {"clean", "curtain-0_25", "curtain-0_75"}


def test_groups_of_attributes_and_of_what_is_hidden(tmp_path: Path, faces: TinyFaces, model: Artefact) -> None:
    by = {"glasses": [], "hidden_face": [0, 0.3, 1], "hidden_mouth": [0, 0.5, 1]}
    protocols = [
        {"use": "verification", "by": by, "rounds": 0},
        {"use": "identification", "by": by, "rounds": 0},
        {"use": "open-set", "by": by, "rounds": 10},
    ]
    work = context(tmp_path, faces, model, protocols=protocols, values=[0.25, 0.4, 0.75])
    SweepStep().run(work)
    found = load_evaluation(work.url)
    clean, little, much = (found.results["verification"][name] for name in ("clean", "curtain-0_25", "curtain-0_75"))
    counts = {group.label: group.counts["genuine pairs"] for group in clean.groups if group.column == "glasses"}
    assert counts == {"no": 4 * 3, "no + yes": 4 * 9, "yes": 4 * 3}
    for result, filled in ((clean, "0..0.3"), (little, "0..0.3"), (much, "0.3..1")):
        whole = {group.label: group.counts["genuine pairs"] for group in result.groups if group.column == "hidden_face"}
        assert whole.pop(filled) == 60
        assert not any(whole.values())
    mouth = {group.label: group.counts["genuine pairs"] for group in little.groups if group.column == "hidden_mouth"}
    assert mouth == {"0..0.5": 60, "0.5..1": 0}
    for protocol in ("identification", "open-set"):
        groups = [group for group in found.results[protocol]["clean"].groups if group.column == "glasses"]
        assert [group.label for group in groups] == ["no", "yes"]
        assert all(group.metrics for group in groups)
    assert found.results["verification"]["clean"].intervals == {}


def test_distractors_are_enrolled_besides(tmp_path: Path, faces: TinyFaces, model: Artefact) -> None:
    first = context(tmp_path / "a", faces, model)
    SweepStep().run(first)
    other = context(tmp_path / "b", faces, model, data="more")
    SweepStep().run(other)
    made = load_evaluation(first.url).probes | {"more": load_evaluation(other.url).probes["clean"]}
    options = {
        "reference": "clean",
        "probes": {"clean": "clean"},
        "distractors": "more",
        "protocols": [{"use": "identification", "distractors": [1, 10, 18, 19]}, "verification"],
    }
    work = FakeStepContext(tmp_path / "c", options, EvaluateConfig, artefacts=made, registry=REGISTRY)
    EvaluateStep().run(work)
    found = load_evaluation(work.url)
    result = found.results["identification"]["clean"]
    assert result.counts["references"] == 24 + 18
    assert result.counts["distractors"] == 18
    assert result.curves["rank-1 by distractors"].x.tolist() == [1, 10, 18]
    assert (np.diff(result.curves["rank-1 by distractors"].y) <= 0).all()
    assert "Rank 1 among 19 distractors is left out" in result.notes[-1]
    # Distractors are nobody's business in verification.
    assert found.results["verification"]["clean"].counts["impostor pairs"] == 24 * 23 // 2 - 60
    assert found.distractors is not None
    assert found.distractors.url == made["more"].url


def test_a_column_nobody_knows(tmp_path: Path, faces: TinyFaces, model: Artefact) -> None:
    protocols = [{"use": "verification", "by": {"beard": []}}]
    with pytest.raises(OccframeError, match="nothing is known of the faces' `beard`"):
        SweepStep().run(context(tmp_path, faces, model, protocols=protocols))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "size"}, r"`curtain` \(occlusions.curtain\) cannot have size 0.25: unknown option `size`"),
        ({"values": [0.5, 1.5]}, "cannot have severity 1.5: Input should be less than or equal to 1"),
        ({"values": [0.5, 0.2]}, "must ascend"),
        ({"sides": ["probe", "probe"]}, "each of `sides`"),
        ({"occlusion": "curtain"}, "takes `occlusions`"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SweepConfig.model_validate(OPTIONS | options, context={"registry": REGISTRY})


def test_a_range_gets_both_ends(tmp_path: Path) -> None:
    config = SweepConfig.model_validate(OPTIONS | {"axis": "span"}, context={"registry": REGISTRY})
    assert config.axis == "span"


def test_conditions_that_are_not_there() -> None:
    options = {"reference": "a", "probes": {"clean": "a"}, "protocols": ["verification"]}
    for more, message in (
        ({"references": {"other": "a"}}, "`references` names other, `probes` has the conditions clean"),
        ({"sweeps": {"s": {"points": {"clean": 0, "x": 1}}}}, r"`sweeps.s` names x"),
        ({"hits": {"clean": "h"}, "distractors": "d"}, "leave out `references` and `distractors`"),
    ):
        with pytest.raises(ValidationError, match=message):
            EvaluateConfig.model_validate(options | more, context={"registry": REGISTRY})
