"""Pictures added to a gallery that lives on, with the model it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from occframe.cli.gallery import gallery as command
from occframe.component import BackboneBlock, BuildContext
from occframe.errors import OccframeError
from occframe.gallery import Gallery, GallerySchema
from occframe.gallery.enrolling import enrol
from occframe.models import LoadedModel, embed_images, load_model, save_model
from occframe.standalone import parse_block, standalone_context
from tests.tiny import TinyFaces, tiny_registry


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.manual_seed(0)
    context = BuildContext(tiny_registry())
    block = BackboneBlock.model_validate({"use": "tiny"}, context={"registry": context.registry})
    folder = str(tmp_path_factory.mktemp("model"))
    save_model(folder, context.build(block), block)
    return load_model(folder, context)


def empty(folder: Path, model: LoadedModel, **changes: Any) -> Gallery:
    facts = {"dim": model.embedding_dim, "model_fingerprint": model.fingerprint, "image_spec": model.image_spec}
    return Gallery.create(str(folder), GallerySchema(**facts | {"dtype": "float32"} | changes))


class OneIsRubbish(TinyFaces):
    def read(self, rows: Any) -> list[Any]:
        return [b"rubbish" if row == 3 else picture for row, picture in zip(rows, super().read(rows), strict=True)]


def test_faces_are_embedded_as_a_pipeline_embeds_them(tmp_path: Path, model: LoadedModel) -> None:
    gallery, faces, seen = empty(tmp_path / "g", model), TinyFaces(), []
    done = enrol(gallery, faces, model, batch_size=5, advance=seen.append)
    assert (done.added, done.skipped, done.unreadable, sum(seen)) == (32, 0, None, 32)
    table = gallery.read()
    assert (list(table.ids), list(table.subjects)) == (list(faces.ids), list(faces.subjects))
    expected = embed_images(model, torch.from_numpy(faces.images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(table.vectors, expected, atol=1e-5)


def test_those_that_exist_are_refused_skipped_or_replaced(tmp_path: Path, model: LoadedModel) -> None:
    gallery = empty(tmp_path / "g", model)
    enrol(gallery, TinyFaces(identities=2), model)
    before = gallery.count
    with pytest.raises(OccframeError, match=rf"is there already \({before} of 32 are\)"):
        enrol(gallery, TinyFaces(), model)
    done = enrol(gallery, OneIsRubbish(), model, existing="skip")
    assert (done.added, done.skipped) == (32 - before, before)
    done = enrol(gallery, OneIsRubbish(), model, existing="replace")
    assert (done.added, done.skipped, gallery.count) == (31, 0, 32)
    assert "1 image" in str(done.unreadable)


def test_a_gallery_of_another_model_or_with_columns_it_cannot_fill(tmp_path: Path, model: LoadedModel) -> None:
    with pytest.raises(OccframeError, match="is of model somebody, not of"):
        enrol(empty(tmp_path / "a", model, model_fingerprint="somebody"), TinyFaces(), model)
    with pytest.raises(OccframeError, match="has the columns age, and the model says nothing of them"):
        enrol(empty(tmp_path / "b", model, columns={"age": "int64"}), TinyFaces(), model)


def test_through_the_command_line(tmp_path: Path) -> None:
    context = standalone_context()
    block = parse_block(BackboneBlock, {"use": "mobilefacenet"}, context)
    save_model(str(tmp_path / "model"), context.build(block), block)
    random = np.random.default_rng(0)
    for person in ("ann", "bob"):
        (tmp_path / "faces" / person).mkdir(parents=True)
        for number in range(2):
            picture = random.integers(0, 256, (112, 112, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "faces" / person / f"{number}.png"), picture)
    gallery, model = str(tmp_path / "g"), str(tmp_path / "model")

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    made = run("create", gallery, "--model", model)
    assert made["dim"] == context.build(block).embedding_dim
    faces = str(tmp_path / "faces")
    assert run("add", gallery, faces, "--model", model, "--set", "aligned=true")["added"] == 4
    assert run("add", gallery, faces, "--model", model, "--set", "aligned=true", "--existing", "skip")["skipped"] == 4
    assert run("delete", gallery, "--subject", "ann")["deleted"] == 2
    with pytest.raises(OccframeError, match="pictures need a model"):
        run("add", gallery, faces)
