"""What is said of a training that ends for another process's sake."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from occframe.distributed import ALONE, Ranks
from occframe.errors import OccframeError
from occframe.step import StepConfig
from occframe.training.run import carry_out
from tests.fakes import FakeStepContext

LOST = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")


def ended(folder: Path, error: Exception, together: Ranks) -> None:
    def run(**_: Any) -> None:
        raise error

    training: Any = SimpleNamespace(resume=lambda: 0, total_steps=9, step=0, together=together, run=run)
    carry_out(FakeStepContext(folder, {}, StepConfig), training, 4)


@pytest.mark.parametrize("error", [LOST, torch.distributed.DistBackendError("NCCL communicator was aborted")])
def test_the_loss_of_another_process_is_no_fault_of_this_one(tmp_path, error):
    with pytest.raises(OccframeError, match=r"another process of this training is gone: .*(peer|aborted)"):
        ended(tmp_path, error, Ranks(0, 2))


@pytest.mark.parametrize(("error", "together"), [(LOST, ALONE), (RuntimeError("shapes differ"), Ranks(1, 2))])
def test_other_errors_stay_what_they_are(tmp_path, error, together):
    with pytest.raises(RuntimeError) as raised:
        ended(tmp_path, error, together)
    assert raised.value is error
