"""FROM through the train step: two stages from a plain trunk, both errors logged apart, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from occframe.component import BuildContext, DatasetBlock
from occframe.errors import OccframeError
from occframe.gallery import Gallery
from occframe.models import load_model
from occframe.plugins import PluginRegistry
from occframe.step import Artefact
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.steps.train import TrainConfig, TrainStep
from occframe_from.codebook import PatternCodebook
from tests.fakes import FakeStepContext

torch.set_num_threads(1)
REGISTRY = PluginRegistry.discover()
SMALL = {"use": "mobilefacenet", "input_size": [48, 48], "embedding_dim": 16}
FROM = {"use": "from", "trunk": SMALL, "pyramid": 8, "blocks": 3, "open_bias": 2}
OPTIONS = {
    "data": "faces",
    "losses": [{"use": "cosface", "scale": 16}],
    "optimiser": {"name": "sgd", "lr": 0.02},
    "epochs": 1,
    "batch_size": 8,
    "precision": "fp32",
    "threads": 1,
    "log_every": 2,
}


@pytest.fixture(scope="module")
def faces() -> Any:
    written = {"use": "synthetic", "identities": 6, "images": 4, "size": 48}
    return BuildContext(REGISTRY).build(DatasetBlock.model_validate(written, context={"registry": REGISTRY}))


def train(url: Path, faces: Any, models: dict[str, Path] | None = None, **options: Any) -> dict[str, Any]:
    """Runs the step; returns the last line of its metrics."""
    artefacts = {name: Artefact(name, "model", str(path), {}) for name, path in (models or {}).items()}
    context = FakeStepContext(
        url, OPTIONS | options, TrainConfig, datasets={"faces": faces}, artefacts=artefacts, registry=REGISTRY, seed=3
    )
    TrainStep().run(context)
    return json.loads((url / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def trunk(faces: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("trunk")
    train(url, faces, backbone=SMALL)
    return url


def test_two_stages_from_a_plain_trunk(tmp_path: Path, faces: Any, trunk: Path) -> None:
    losses = [
        {"use": "cosface", "scale": 16},
        {"use": "occlusion-pattern", "weight": 0.3},
        "mask-coverage",
        "distil-clean",
    ]
    told = train(
        tmp_path / "decoder",
        faces,
        {"trunk": trunk},
        backbone=FROM,
        start="trunk",
        teacher="trunk",
        losses=losses,
        parts={"trunk": {"rate": 0}},
        occlusion="rectangles",
    )
    names = {"cosface", "occlusion-pattern", "mask-coverage", "distil-clean"}
    assert {key for key in told if key.startswith("loss.")} == {f"loss.{name}" for name in names}
    assert 0 <= told["occlusion-pattern.accuracy"] <= 1
    assert 0 <= told["occlusion-pattern.iou"] <= 1
    before, after = load_file(trunk / "model.safetensors"), load_file(tmp_path / "decoder" / "model.safetensors")
    assert all(torch.equal(after[f"trunk.{key}"], value) for key, value in before.items())
    assert after["decoder.3.weight"].any()  # it began at 0

    train(
        tmp_path / "from",
        faces,
        {"decoder": tmp_path / "decoder", "trunk": trunk},
        backbone=FROM,
        start="decoder",
        teacher="trunk",
        losses=losses,
        parts={"trunk": {"rate": 0.1, "statistics": "keep"}},
        occlusion="rectangles",
    )
    last = load_file(tmp_path / "from" / "model.safetensors")
    assert not torch.equal(last["trunk.stem.conv.weight"], after["trunk.stem.conv.weight"])
    assert torch.equal(last["trunk.stem.norm.running_mean"], after["trunk.stem.norm.running_mean"])
    model = load_model(str(tmp_path / "from"), BuildContext(REGISTRY))
    assert set(model.backbone(torch.zeros(1, 3, 48, 48)).extras) == {"mask"}

    gallery = embed(tmp_path, faces, describe=True)
    plain = embed(tmp_path, faces, describe=False)
    (said,), (bare,) = (list(found.iter_batches(columns=list(found.schema.columns))) for found in (gallery, plain))
    assert bare.columns == {}
    assert abs(said.vectors.astype(float) - bare.vectors.astype(float)).max() < 1e-3
    columns = ["masked", "mask", "pattern", "pattern_probability"]
    assert list(said.columns) == [*columns, *(f"occluded_{side}" for side in ("left", "top", "right", "bottom"))]
    masks = np.array(said.columns["mask"].tolist())
    assert masks.shape == (len(said.vectors), 9)  # 48 / 16 places a side
    assert np.allclose(1 - masks.mean(1), said.columns["masked"], atol=1e-6)
    book = PatternCodebook(3, 48, 48)
    for pattern, left, bottom in zip(
        *(said.columns[name] for name in ("pattern", "occluded_left", "occluded_bottom")), strict=True
    ):
        assert (left, bottom) == tuple(book.boxes[pattern, [0, 3]].tolist())
    assert ((said.columns["pattern_probability"] > 1 / 37) & (said.columns["pattern_probability"] <= 1)).all()


def embed(folder: Path, faces: Any, *, describe: bool) -> Gallery:
    url = folder / f"gallery-{describe}"
    options = {"data": "faces", "model": "from", "describe": describe, "threads": 1, "precision": "fp32"}
    model = Artefact("from", "model", str(folder / "from"), {})
    context = FakeStepContext(
        url, options, EmbedConfig, datasets={"faces": faces}, artefacts={"from": model}, registry=REGISTRY
    )
    EmbedStep().run(context)
    return Gallery.open(str(url))


def test_a_backbone_that_says_nothing_cannot_describe(tmp_path: Path, faces: Any, trunk: Path) -> None:
    (tmp_path / "from").symlink_to(trunk)
    with pytest.raises(OccframeError, match="says nothing of a face but its embedding"):
        embed(tmp_path, faces, describe=True)


def test_corners_are_learnt_and_logged(tmp_path: Path, faces: Any) -> None:
    told = train(
        tmp_path,
        faces,
        backbone=FROM | {"patterns": "regression"},
        losses=[{"use": "cosface", "scale": 16}, {"use": "occlusion-box", "distance": "smooth-l1"}],
        occlusion="rectangles",
    )
    assert told["loss.occlusion-box"] > 0
    assert 0 <= told["occlusion-box.iou"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": SMALL, "losses": ["occlusion-pattern"], "occlusion": "rectangles"},
            "needs `extras.pattern_logits`",
        ),
        ({"backbone": FROM, "losses": ["occlusion-pattern"]}, "needs `mask`, which the batches will not have"),
        ({"backbone": FROM, "losses": ["distil-clean"]}, "needs `teacher`, which the batches will not have"),
        ({"backbone": FROM, "parts": {"decodr": {"rate": 0}}}, "no weight belongs to the part `decodr`"),
    ],
)
def test_what_is_missing_is_named_before_the_first_step(
    tmp_path: Path, faces: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OccframeError, match=message):
        train(tmp_path, faces, **options)


def test_a_teacher_of_another_size_is_refused(tmp_path: Path, faces: Any, trunk: Path) -> None:
    wide = FROM | {"trunk": SMALL | {"embedding_dim": 32}}
    with pytest.raises(OccframeError, match="the teacher takes 48 x 48 images to 16 dimensions"):
        train(tmp_path, faces, {"trunk": trunk}, backbone=wide, teacher="trunk")
