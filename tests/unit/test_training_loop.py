"""The loop without a data set: batches made of tensors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from occframe.errors import Interrupted, OccframeError
from occframe.training.checkpoint import Checkpoints
from occframe.training.journal import Journal
from occframe.training.loop import Plan, Training
from occframe.training.metrics import MetricsLog
from occframe.training.optimisers import AdamW, Sgd, build_optimiser
from occframe.training.recogniser import GradientStep, Recogniser, Term
from occframe.types import BackboneOutput, FaceBatch
from tests.fakes import SilentProgress, stop_after
from tests.tiny import SIZE, Poison, Softmax, TinyBackbone, TinyConfig

CLASSES = 4


@dataclass(frozen=True)
class Colours:
    """Batches of noisy colours, each a pure function of its number; the class decides the colour."""

    batches_per_epoch: int = 6
    batch_size: int = 16

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
        for position in range(start_batch, self.batches_per_epoch):
            draw = torch.Generator().manual_seed(number * 1000 + position)
            identities = torch.randint(0, CLASSES, (self.batch_size,), generator=draw)
            colours = torch.tensor([[200, 50, 50], [50, 200, 50], [50, 50, 200], [180, 180, 40]])[identities]
            noise = torch.randint(-30, 30, (self.batch_size, 3, SIZE, SIZE), generator=draw)
            images = (colours[:, :, None, None] + noise).to(torch.uint8)
            yield FaceBatch(images, torch.arange(self.batch_size), identities)


def build(
    url: Path,
    *,
    extra_terms: tuple[Term, ...] = (),
    optimiser: Sgd | AdamW = Sgd(lr=0.01),  # noqa: B008
    precision: str = "fp32",
    clip_norm: float | None = None,
    checkpoint_seconds: float = 600.0,
    epochs: int = 3,
    every: int = 4,
    channels_last: bool = False,
) -> Training:
    torch.manual_seed(0)
    backbone = TinyBackbone(TinyConfig())
    terms = [Term("softmax", 1.0, Softmax(8, CLASSES)), *extra_terms]
    recogniser = Recogniser(backbone, terms, precision=precision, channels_last=channels_last)
    update = GradientStep(recogniser, build_optimiser(optimiser, recogniser.parameters()), clip_norm=clip_norm)
    journal = Journal(MetricsLog(f"{url}/metrics.jsonl"), update.columns, every=every, device="cpu")
    plan = Plan(steps=6 * epochs, rate=lambda step: optimiser.lr, checkpoint_seconds=checkpoint_seconds)
    return Training(Colours(), update, plan, journal, Checkpoints(f"{url}/checkpoints", print), device="cpu")


def run(training: Training, questions: int | None = None) -> Training:
    training.resume()
    stop = (lambda: False) if questions is None else stop_after(questions)
    training.run(stop=stop, progress=SilentProgress("training", None, "images"))
    return training


def lines(url: Path) -> list[dict[str, object]]:
    """The metrics without what depends on the clock."""
    timed = {"seconds", "images_per_s", "data_wait"}
    records = [json.loads(line) for line in (url / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in timed} for record in records]


def weights(training: Training) -> dict[str, Tensor]:
    return training.update.recogniser.state_dict()


def assert_same(left: Training, right: Training) -> None:
    for name, value in weights(left).items():
        assert torch.equal(value, weights(right)[name]), name


def test_a_small_problem_is_learnt(tmp_path) -> None:
    training = run(build(tmp_path, epochs=10))
    assert training.step == 60
    epochs = [line for line in lines(tmp_path) if line["kind"] == "epoch"]
    assert [line["step"] for line in epochs] == [6 * number for number in range(1, 11)]
    assert epochs[-1]["loss"] < 0.1 < 1.0 < epochs[0]["loss"]


def test_bfloat16_learns_it_too_and_keeps_float32_weights(tmp_path) -> None:
    training = run(build(tmp_path, epochs=10, precision="bf16", channels_last=True))
    assert lines(tmp_path)[-1]["loss"] < 0.1
    assert {value.dtype for value in training.update.recogniser.parameters()} == {torch.float32}


def test_lines_say_what_happened_when(tmp_path) -> None:
    run(build(tmp_path, epochs=2))
    told = lines(tmp_path)
    assert [(line["kind"], line["step"], line["epoch"]) for line in told] == [
        ("steps", 4, 1),
        ("steps", 6, 1),
        ("epoch", 6, 1),
        ("steps", 10, 2),
        ("steps", 12, 2),
        ("epoch", 12, 2),
    ]
    first, second, epoch = told[:3]
    assert epoch["loss"] == pytest.approx((4 * first["loss"] + 2 * second["loss"]) / 6)
    assert first["loss"] == pytest.approx(first["loss.softmax"])
    assert first["lr"] == 0.01


def test_terms_are_summed_by_weight_and_logged_by_name(tmp_path) -> None:
    class Size(nn.Module):
        needs = frozenset()

        def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
            return output.embedding.square().mean()

    run(build(tmp_path, extra_terms=(Term("size", 0.25, Size()),), epochs=1))
    for line in lines(tmp_path):
        assert line["loss"] == pytest.approx(line["loss.softmax"] + 0.25 * line["loss.size"])


@pytest.mark.parametrize("options", [{}, {"optimiser": AdamW(), "clip_norm": 1.0}, {"channels_last": True}])
@pytest.mark.parametrize("questions", [0, 2, 5, 6])
def test_a_stopped_training_goes_on_bit_by_bit(tmp_path, questions, options) -> None:
    whole = run(build(tmp_path / "whole", **options))
    with pytest.raises(Interrupted, match=f"stopped after step {questions} of 18; a checkpoint is kept"):
        run(build(tmp_path / "halves", **options), questions)
    torch.manual_seed(99)  # another process begins with other random numbers
    resumed = build(tmp_path / "halves", **options)
    assert resumed.resume() == questions
    resumed.run(stop=lambda: False, progress=SilentProgress("", None, ""))
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")
    assert_same(resumed, whole)


def test_what_was_written_after_the_checkpoint_is_written_once(tmp_path) -> None:
    whole = run(build(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        run(build(tmp_path / "killed"), 5)
    # A kill leaves lines that are newer than the checkpoint, the last one cut short.
    log = tmp_path / "killed" / "metrics.jsonl"
    log.write_text((tmp_path / "whole" / "metrics.jsonl").read_text()[:-20])
    resumed = run(build(tmp_path / "killed"))
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    assert_same(resumed, whole)


def test_a_finished_training_is_not_trained_again(tmp_path) -> None:
    first = run(build(tmp_path))
    told = lines(tmp_path)
    again = run(build(tmp_path))
    assert again.step == 18
    assert again.journal.last == first.journal.last
    assert again.journal.whole.images == 18 * 16
    assert lines(tmp_path) == told
    assert_same(first, again)


def test_checkpoints_are_written_as_time_passes_and_at_the_end(tmp_path, monkeypatch) -> None:
    saved = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, state, shards: saved.append(step))
    run(build(tmp_path / "often", checkpoint_seconds=0.0, epochs=1))
    run(build(tmp_path / "seldom", epochs=1))
    assert saved == [0, 1, 2, 3, 4, 5, 6, 6]


def test_batches_of_unreadable_pictures_are_no_reason_to_stumble(tmp_path) -> None:
    class Torn(Colours):
        def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
            batches = list(super().epoch(number))
            one = batches[2]
            batches[2] = FaceBatch(one.images[:1], one.index[:1], one.identities[:1])
            del batches[4]  # nothing of it is left
            yield from batches[start_batch:]

    training = build(tmp_path, epochs=2)
    training.batches = Torn()
    run(training)
    epochs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in epochs if line["kind"] == "epoch"] == [6, 12]
    assert training.journal.whole.images == 2 * 4 * 16


def test_waiting_for_data_shows(tmp_path) -> None:
    class Slow(Colours):
        def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
            for batch in super().epoch(number, start_batch):
                time.sleep(0.05)
                yield batch

    for name, batches in {"slow": Slow(), "ready": Colours()}.items():
        training = build(tmp_path / name, epochs=1)
        training.batches = batches
        run(training)
    slow, ready = (
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in ("slow", "ready")
    )
    assert slow["data_wait"] > max(0.5, ready["data_wait"])
    assert slow["images_per_s"] == pytest.approx(96 / slow["seconds"], rel=0.01)


def test_nan_stops_the_training_and_names_loss_and_step(tmp_path) -> None:
    poisoned = build(tmp_path, extra_terms=(Term("poison", 1.0, Poison(step=7)),), checkpoint_seconds=0.0)
    with pytest.raises(OccframeError) as error:
        run(poisoned)
    text = str(error.value)
    assert "loss.poison became nan at step 7 of 18, at a learning rate of 0.01" in text
    assert "lower optimiser.lr" in text
    assert "precision: fp32" in text
    assert [line["step"] for line in lines(tmp_path)] == [4, 6, 6]
    good = Checkpoints(f"{tmp_path}/checkpoints", print).load_latest()
    assert good["step"] == 6
    assert all(value.isfinite().all() for value in good["update"]["recogniser"].values())


def test_nan_in_mid_window_is_found_at_its_end(tmp_path) -> None:
    poisoned = build(tmp_path, extra_terms=(Term("poison", 1.0, Poison(step=2)),))
    with pytest.raises(OccframeError, match="became nan at step 2 of 18"):
        run(poisoned)
    assert poisoned.step == 4
    assert not list((tmp_path / "checkpoints").iterdir())


def test_weights_that_are_no_numbers_are_never_kept(tmp_path) -> None:
    training = build(tmp_path)
    training.update.recogniser.backbone.head[2].bias.data[3] = float("inf")
    with pytest.raises(OccframeError, match=r"weight `backbone.head.2.bias` is not finite after step 0"):
        training.save()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_gradients_are_clipped_to_a_norm(tmp_path) -> None:
    step = {}
    for clip in (None, 1e-3):
        training = build(tmp_path, optimiser=Sgd(lr=1.0, momentum=0, weight_decay=0), clip_norm=clip)
        before = [parameter.detach().clone() for parameter in training.update.recogniser.parameters()]
        figures = training.update(next(Colours().epoch(0)), 1.0)
        moved = [(new - old).detach() for new, old in zip(training.update.recogniser.parameters(), before, strict=True)]
        step[clip] = float(torch.stack([difference.norm() for difference in moved]).norm())
        if clip:
            assert training.update.columns[-1] == "gradient_norm"
            assert float(figures[-1]) == pytest.approx(step[None], rel=1e-3)
    assert step[None] > 0.1
    assert step[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_no_scalar_is_its_authors_fault(tmp_path) -> None:
    class PerImage(nn.Module):
        needs = frozenset()

        def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
            return output.embedding.mean(dim=1)

    with pytest.raises(OccframeError, match=r"loss `each` gave a tensor \[16\], not a scalar"):
        run(build(tmp_path, extra_terms=(Term("each", 1.0, PerImage()),)))


def with_scaler(training: Training, scale: float) -> Training:
    """float16 needs CUDA in a run; its bookkeeping does not."""
    update = training.update
    update.optimiser = build_optimiser(Sgd(lr=0.01), update.recogniser.parameters(), scaled_gradients=True)
    update._scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return training


def test_steps_whose_scaled_gradients_overflow_change_nothing_and_are_counted(tmp_path) -> None:
    class Steep(nn.Module):
        needs = frozenset()

        def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
            return output.embedding.sum() / 4  # a bias sees 16 / 4 times the scale: more than float32 holds

    steep = (Term("steep", 1.0, Steep()),)
    training = run(with_scaler(build(tmp_path, epochs=3, clip_norm=5.0, extra_terms=steep), 2.0**127))
    skipped = [line.get("skipped_steps", 0) for line in lines(tmp_path) if line["kind"] == "steps"]
    assert 1 <= sum(skipped) <= 8
    assert skipped[-1] == 0
    assert all(value.isfinite().all() for value in weights(training).values())


def test_a_loss_that_stays_nan_stops_a_scaled_training_too(tmp_path) -> None:
    class Hopeless(nn.Module):
        needs = frozenset()

        def forward(self, output: BackboneOutput, batch: FaceBatch) -> Tensor:
            return output.embedding.sum() * float("nan")

    training = build(tmp_path, extra_terms=(Term("hopeless", 1.0, Hopeless()),), epochs=8)
    with pytest.raises(OccframeError, match=r"loss.hopeless became nan"):
        run(with_scaler(training, 2.0**16))
    assert all(value.isfinite().all() for value in training.update.recogniser.parameters())
