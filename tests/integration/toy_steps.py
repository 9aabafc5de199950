"""An inline plugin whose steps leave a trace each time they run: what the runner's tests are made of."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from occframe import OccframeError, StepConfig, StepContext, StepOutcome, hookimpl
from occframe.component import Reference
from occframe.errors import Interrupted


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


@hookimpl
def occframe_register_steps(register) -> None:
    register("make", Make, config=MakeConfig, summary="makes a thing")
