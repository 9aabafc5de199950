"""An inline plugin whose steps leave a trace each time they run: what the runner's tests are made of."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

from occframe import OccframeError, StepConfig, StepContext, StepOutcome, hookimpl
from occframe.component import Reference
from occframe.errors import Interrupted
from occframe.machine import usable_cores


class ThingRef(Reference):
    kind = "thing"


class MakeConfig(StepConfig):
    produces = "thing"
    value: int = 1
    trace: str
    needs: ThingRef | None = None
    behave: str = "well"


class Make:
    def __init__(self, config: MakeConfig, context: object) -> None:
        self.config = config

    def run(self, context: StepContext) -> StepOutcome:
        with open(self.config.trace, "a") as trace:
            trace.write(f"{context.name} ")
        before = context.artefact(self.config.needs).meta["value"] if self.config.needs else 0
        value = getattr(self, self.config.behave)(context) or before + self.config.value
        return StepOutcome({"": {"value": value}}, {"value": abs(value)}, [f"{context.name} is {value}"])

    def well(self, context: StepContext) -> None:
        context.note("all is well")

    def return_no_json(self, context: StepContext) -> complex:
        return 1j

    def fail(self, context: StepContext) -> None:
        raise OccframeError("the step failed", remedy="do better")

    def crash(self, context: StepContext) -> None:
        raise ZeroDivisionError("a fault")

    def fill_disk(self, context: StepContext) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wait(self, context: StepContext) -> None:
        """Until stopped; what it did is kept and used the next time."""
        kept = Path(context.url) / "kept"
        if kept.exists():
            return
        kept.touch()
        for _ in range(600):
            if context.stop_requested():
                raise Interrupted("stopped by the user", remedy="run the same command again to go on")
            time.sleep(0.05)

    def meet(self, context: StepContext) -> None:
        """Until as many steps are here as `value` says: none of them ends alone."""
        here = Path(self.config.trace).parent
        (here / f"{context.name}.here").write_text(str(os.getpid()))
        for _ in range(2400):
            if context.stop_requested():
                raise Interrupted("stopped by the user", remedy="run the same command again to go on")
            if len(list(here.glob("*.here"))) >= self.config.value:
                return
            time.sleep(0.05)
        raise OccframeError("nobody came")

    def hang(self, context: StepContext) -> None:
        self.meet(context)
        time.sleep(600)

    def be_killed(self, context: StepContext) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def count_cores(self, context: StepContext) -> int:
        assert os.environ["OMP_NUM_THREADS"] == str(usable_cores())
        return usable_cores()

    def show_progress(self, context: StepContext) -> None:
        with context.progress("working", 30, "things") as bar:
            for _ in range(30):
                bar.advance()
                bar.describe("well")
                time.sleep(0.08)


@hookimpl
def occframe_register_steps(register) -> None:
    register("make", Make, config=MakeConfig, summary="makes a thing")
