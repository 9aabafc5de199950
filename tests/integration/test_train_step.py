"""Step ``train`` through the real loader, models and checkpoints, with the tiniest network that can learn."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from safetensors.torch import load_file

from occframe.cli import cli
from occframe.errors import Interrupted, OccframeError
from occframe.models import load_model
from occframe.step import StepOutcome
from occframe.steps.train import TrainConfig, TrainStep
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import TinyFaces, tiny_registry

ROOT = Path(__file__).parents[2]
REGISTRY = tiny_registry()
OPTIONS = {
    "data": "faces",
    "backbone": "tiny",
    "losses": ["softmax"],
    "optimiser": {"name": "sgd", "lr": 0.02},
    "epochs": 10,
    "batch_size": 8,
    "precision": "fp32",
    "log_every": 3,
    "threads": 2,
}


def context(
    url: Path, *, faces: TinyFaces | None = None, stop: Any = lambda: False, profile: bool = False, **options: Any
) -> FakeStepContext:
    return FakeStepContext(
        url,
        OPTIONS | options,
        TrainConfig,
        name="recogniser",
        datasets={"faces": faces or TinyFaces()},
        registry=REGISTRY,
        seed=3,
        stop=stop,
        profile=profile,
    )


def train(url: Path, **options: Any) -> tuple[FakeStepContext, StepOutcome]:
    made = context(url, **options)
    return made, TrainStep().run(made)


def lines(url: Path) -> list[dict[str, Any]]:
    timed = {"seconds", "images_per_s", "data_wait"}
    records = [json.loads(line) for line in (url / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in timed} for record in records]


def assert_same_training(left: Path, right: Path) -> None:
    assert lines(left) == lines(right)
    assert (left / "model.safetensors").read_bytes() == (right / "model.safetensors").read_bytes()


def test_a_recogniser_comes_out_that_tells_people_apart(tmp_path) -> None:
    faces = TinyFaces()
    made, outcome = train(tmp_path, faces=faces)
    model = load_model(str(tmp_path), made.build)
    assert model.card.extra["identities"] == 4
    embeddings = model.backbone(torch.from_numpy(faces.images).permute(0, 3, 1, 2).float() / 127.5 - 1).embedding
    similar = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(embeddings).T
    same = torch.tensor([[left == right for left in faces.subjects] for right in faces.subjects])
    assert float(similar[same].mean()) > float(similar[~same].mean()) + 0.5

    assert outcome.metrics["loss"] < 0.3
    assert outcome.metrics["steps"] == 40
    assert outcome.metrics["images"] == 320
    assert outcome.headlines[0].startswith("recogniser: 10 epochs over 32 images of 4 identities, loss 0.")
    (bar,) = made.bars
    assert (bar.done, bar.total, bar.unit) == (320, 320, "images")
    assert bar.described[-1].startswith("epoch 10/10, loss 0.")
    assert (tmp_path / "quarantine.jsonl").read_text() == ""


def test_ctrl_c_keeps_a_checkpoint_from_which_a_second_run_goes_on(tmp_path) -> None:
    options = {"occlusion": "blot", "losses": ["softmax", {"use": "needy", "needs": ["mask", "clean"]}]}
    train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match="stopped after step 17 of 40; a checkpoint is kept") as error:
        train(tmp_path / "halves", stop=stop_after(17), **options)
    assert error.value.exit_code == 130
    resumed, outcome = train(tmp_path / "halves", **options)
    assert resumed.notes == ["went on from the checkpoint of step 17 of 40"]
    assert resumed.bars[0].total == 23 * 8
    assert outcome.metrics["images"] == 320
    assert_same_training(tmp_path / "halves", tmp_path / "whole")


def test_augmenting_on_the_device_teaches_the_same_and_resumes_exactly(tmp_path) -> None:
    options = {"occlusion": "rectangles", "grey_probability": 0.2, "epochs": 3}
    train(tmp_path / "workers", **options)
    options["augment_on"] = "device"
    train(tmp_path / "device", **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "halves", stop=stop_after(6), **options)
    train(tmp_path / "halves", **options)
    assert_same_training(tmp_path / "device", tmp_path / "workers")
    assert_same_training(tmp_path / "halves", tmp_path / "workers")


def test_a_compiled_network_learns_the_same_under_the_same_names(tmp_path) -> None:
    options = {"backbone": {"use": "tiny", "dropout": 0.0}, "epochs": 2}
    train(tmp_path / "eager", **options)
    options["compile"] = True
    train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "halves", stop=stop_after(3), **options)
    train(tmp_path / "halves", **options)
    assert_same_training(tmp_path / "halves", tmp_path / "whole")
    for left, right in zip(lines(tmp_path / "eager"), lines(tmp_path / "whole"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-4)
    eager, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("eager", "whole"))
    assert eager.keys() == compiled.keys()
    assert all(torch.allclose(value, compiled[name], atol=1e-3) for name, value in eager.items())


def test_without_a_compiler_it_is_said_what_to_install(tmp_path, monkeypatch) -> None:
    def no_compiler(function: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\n  in a long list of places")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(OccframeError, match=r"does not work here for cpu: .*No working C.. compiler found") as error:
        train(tmp_path, compile=True)
    assert error.value.remedy.startswith("install a C++ compiler")


@pytest.mark.parametrize("augment_on", ["workers", "device"])
def test_a_profile_says_where_the_time_of_a_step_goes(tmp_path, augment_on) -> None:
    made = context(tmp_path, occlusion="rectangles", augment_on=augment_on, profile=True)
    TrainStep().run(made)
    table = (tmp_path / "profile" / "table.txt").read_text()
    assert made.notes == [f"profile of 10 steps: {tmp_path}/profile/trace.json (open it in ui.perfetto.dev)\n{table}"]
    parts = {line.split()[0] for line in table.splitlines()}
    assert {"loading", "forward", "backward", "optimiser", "step"} <= parts
    assert ("augmentation" in parts) == (augment_on == "device")
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    steps = {event["name"] for event in trace["traceEvents"] if event["name"].startswith("ProfilerStep#")}
    assert steps == {f"ProfilerStep#{number}" for number in range(10, 20)}


def test_profiling_changes_nothing_and_takes_any_number_of_steps(tmp_path) -> None:
    train(tmp_path / "usual", epochs=1)
    TrainStep().run(context(tmp_path / "profiled", epochs=1, profile=True))
    assert_same_training(tmp_path / "profiled", tmp_path / "usual")
    assert "step" in (tmp_path / "profiled" / "profile" / "table.txt").read_text()


def test_the_command_passes_the_wish_for_a_profile_on(tmp_path) -> None:
    (tmp_path / "pipeline.yaml").write_text(
        f"""
run_dir: {tmp_path}/run
device: cpu
plugins: [{ROOT}/tests/tiny.py]
data:
  faces: {{use: synthetic, identities: 4, images: 8, size: 24}}
steps:
  - {{use: train, data: faces, backbone: tiny, losses: [softmax], epochs: 2, batch_size: 8, precision: fp32}}
"""
    )
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "pipeline.yaml"), "--profile"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (table,) = (tmp_path / "run").rglob("profile/table.txt")
    assert table.read_text().startswith("a step")
    assert (table.parent / "trace.json").is_file()
    assert "profile of 4 steps" in done.stderr


def test_balanced_batches_resume_exactly(tmp_path) -> None:
    options = {"images_per_identity": 2, "epochs": 3, "occlusion": "blot"}
    train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "halves", stop=stop_after(6), **options)
    train(tmp_path / "halves", **options)
    assert_same_training(tmp_path / "halves", tmp_path / "whole")


def test_bundled_components_train_and_resume_exactly(tmp_path) -> None:
    options = {
        "backbone": {"use": "mobilefacenet", "embedding_dim": 64},
        "losses": [{"use": "cosface", "scale": 16}, {"use": "arcface", "scale": 16, "weight": 0.5}],
        "occlusion": "rectangles",
        "optimiser": {"name": "adamw"},
        "batch_size": 4,
        "epochs": 1,
        "log_every": 2,
    }
    faces = TinyFaces(identities=4, each=3)
    _, outcome = train(tmp_path / "whole", faces=faces, **options)
    figures = outcome.metrics
    assert figures["loss"] == pytest.approx(figures["loss.cosface"] + 0.5 * figures["loss.arcface"])
    with pytest.raises(Interrupted):
        train(tmp_path / "halves", faces=faces, stop=stop_after(1), **options)
    made, _ = train(tmp_path / "halves", faces=faces, **options)
    assert_same_training(tmp_path / "halves", tmp_path / "whole")
    assert load_model(f"{tmp_path}/halves", made.build).embedding_dim == 64


def child(url: str) -> None:
    """What the killed process runs: a checkpoint after every step."""
    train(Path(url), epochs=30, checkpoint_minutes=1e-9)


def test_a_killed_process_goes_on_bit_by_bit(tmp_path) -> None:
    command = f"from tests.integration.test_train_step import child; child({str(tmp_path / 'killed')!r})"
    process = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT)
    log = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= 6:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.json").exists()

    resumed, _ = train(tmp_path / "killed", epochs=30)
    assert any("went on from the checkpoint of step" in note for note in resumed.notes)
    train(tmp_path / "whole", epochs=30)
    assert_same_training(tmp_path / "killed", tmp_path / "whole")
    told = [(line["kind"], line["step"]) for line in lines(tmp_path / "killed")]
    assert len(told) == len(set(told))


def test_a_damaged_checkpoint_costs_its_steps_only(tmp_path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "damaged", stop=stop_after(6), checkpoint_minutes=1e-9)
    (tmp_path / "damaged" / "checkpoints" / "step-000000006.pt").write_bytes(b"half")
    resumed, _ = train(tmp_path / "damaged")
    assert "the checkpoint of step 6 is damaged and passed over" in resumed.notes[0]
    assert resumed.notes[1] == "went on from the checkpoint of step 5 of 40"
    assert_same_training(tmp_path / "damaged", tmp_path / "whole")


def test_threads_do_not_change_what_is_learnt(tmp_path) -> None:
    train(tmp_path / "one", threads=1, occlusion="blot", epochs=2)
    train(tmp_path / "three", threads=3, occlusion="blot", epochs=2)
    assert_same_training(tmp_path / "one", tmp_path / "three")


def test_the_seed_decides_the_weights_and_leaves_torch_alone(tmp_path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(tmp_path / "first", epochs=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    train(tmp_path / "second", epochs=1)
    assert_same_training(tmp_path / "first", tmp_path / "second")


@pytest.mark.parametrize(
    ("identities", "each", "message"),
    [(1, 8, "`faces` has one identity only, 'person 0'"), (0, 0, "`faces` has no images")],
)
def test_one_identity_is_nobody_to_tell_apart(tmp_path, identities, each, message) -> None:
    with pytest.raises(OccframeError, match=f"{message}(.|\n)*at least two identities"):
        train(tmp_path, faces=TinyFaces(identities, each))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (["mask"], "loss `needy` needs `mask`, which the batches will not have\n.*give the step an `occlusion`"),
        (["landmarks"], "loss `needy` needs `landmarks`(.|\n)*use a data set with landmarks"),
        (["extras.pattern"], "needs `extras.pattern`; backbone `tiny` gives only brightness"),
        (["colour"], "needs `colour`(.|\n)*report this to the authors of `needy`: nothing gives that"),
        (["mask", "landmarks"], "needs `landmarks`(.|\n)*; loss `needy` needs `mask`"),
    ],
)
def test_what_a_loss_needs_is_checked_before_the_first_step(tmp_path, needs, message) -> None:
    with pytest.raises(OccframeError, match=message):
        train(tmp_path, losses=["softmax", {"use": "needy", "needs": needs}])
    assert not (tmp_path / "metrics.jsonl").exists()


def test_what_a_loss_needs_it_gets(tmp_path) -> None:
    needs = ["identities", "landmarks", "mask", "clean", "extras.brightness"]
    losses = ["softmax", {"use": "needy", "needs": needs}]
    train(tmp_path, faces=TinyFaces(landmarks=True), losses=losses, occlusion="blot", epochs=1)


def test_looking_for_extras_leaves_no_trace(tmp_path) -> None:
    plain = {"losses": ["softmax", {"use": "needy", "needs": []}], "epochs": 1}
    asking = {"losses": ["softmax", {"use": "needy", "needs": ["extras.brightness"]}], "epochs": 1}
    train(tmp_path / "plain", **plain)
    train(tmp_path / "asking", **asking)
    assert_same_training(tmp_path / "plain", tmp_path / "asking")


def test_a_data_set_smaller_than_a_batch_is_the_batch(tmp_path) -> None:
    made, outcome = train(tmp_path, batch_size=500, epochs=3)
    assert made.notes == ["there are 32 images, less than batch_size: every step sees them all"]
    assert outcome.metrics["steps"] == 3
    assert outcome.metrics["images"] == 96


def test_the_same_loss_twice_is_logged_under_two_names(tmp_path) -> None:
    _, outcome = train(tmp_path, losses=["softmax", {"use": "occframe-tiny:softmax", "weight": 0.5}], epochs=1)
    figures = outcome.metrics
    assert figures["loss"] == pytest.approx(figures["loss.softmax"] + 0.5 * figures["loss.softmax-2"])


def test_training_can_begin_with_weights(tmp_path) -> None:
    train(tmp_path / "first")
    _, outcome = train(tmp_path / "second", weights=f"{tmp_path}/first/model.safetensors", epochs=1)
    _, scratch = train(tmp_path / "third", epochs=1)
    assert outcome.metrics["loss"] < scratch.metrics["loss"]


def test_nan_ends_the_step_with_its_cause(tmp_path) -> None:
    with pytest.raises(OccframeError, match=r"loss.poison became nan at step 7 of 40(.|\n)*lower optimiser.lr"):
        train(tmp_path, losses=["softmax", {"use": "poison", "step": 7}])
    assert not (tmp_path / "model.json").exists()


def test_unreadable_pictures_are_left_out_and_listed(tmp_path) -> None:
    class Torn(TinyFaces):
        def read(self, rows: Any) -> list[bytes | np.ndarray]:
            return [b"" if row == 5 else self.images[row] for row in rows]

    made, outcome = train(tmp_path, faces=Torn(), epochs=2)
    (line,) = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "person 0/5"
    assert any("1 image left out" in note for note in made.notes)
    assert outcome.metrics["loss"] > 0


@pytest.mark.parametrize(
    ("code", "text"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_disk_or_a_read_only_one_ends_the_step_with_what_to_do(tmp_path, monkeypatch, code, text) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, text)

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OccframeError, match=rf"cannot write .*{text}(.|\n)*free some space or choose another run_dir"):
        train(tmp_path, checkpoint_minutes=1e-9)


def test_too_little_memory_on_the_device_says_what_to_lower(tmp_path, monkeypatch) -> None:
    def greedy(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 3 GiB\nwith a page of advice")

    monkeypatch.setattr("tests.tiny.TinyBackbone.forward", greedy)
    with pytest.raises(OccframeError, match="batches of 8 images: tried to allocate 3 GiB\n  -> lower batch_size"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"losses": []}, "at least 1 item"),
        ({"optimiser": {"name": "adam"}}, "adamw"),
        ({"optimiser": {"name": "sgd", "beta1": 0.9}}, "beta1"),
        ({"schedule": {"name": "cosine", "milestones": [3]}}, "milestones"),
        ({"occlusion_probability": 1.5}, "less than or equal to 1"),
        ({"precision": "fp8"}, "bf16"),
        ({"epochs": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message) -> None:
    with pytest.raises(ValidationError, match=message):
        context(tmp_path, **options)


def test_validating_imports_no_torch() -> None:
    code = (
        "import sys, occframe.steps.train; print([name for name in ('torch', 'cv2', 'pyarrow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
