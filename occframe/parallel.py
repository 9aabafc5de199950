"""The steps of a plan in several processes at once: each as soon as what it needs is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from occframe.errors import Interrupted, OccframeError, first_line
from occframe.machine import resolve_device, usable_cores
from occframe.progress import AddBar, Bar, show_board
from occframe.workers import BarBegun, BarEnded, BarMoved, Figures, Finished, Note, Recipe, Said, Worker

if TYPE_CHECKING:
    from occframe.pipeline import PlannedStep, Runner

_BETWEEN_LOOKS = 0.2  # seconds until a request to stop is seen


def default_processes(device: str) -> int:
    """One a GPU. On a CPU one for four cores: a network on small faces gains little from more threads than that."""
    if resolve_device(device) == "cuda":
        import torch

        return torch.cuda.device_count()
    return max(1, usable_cores() // 4)


def run_steps(runner: Runner, steps: Sequence[PlannedStep], processes: int) -> None:
    """Run ``steps``, which are in an order that would do one after another, in up to ``processes`` processes.

    After a failure none is begun, and those that run are waited for. Raises as the runner does with one process.
    """
    with show_board(runner.console) as add:
        crew = _Crew(runner, min(processes, len(steps)), add)
        try:
            crew.run(steps)
        finally:
            crew.dismiss()


class _Crew:
    """Workers, begun when there is work for one more. count: at most."""

    def __init__(self, runner: Runner, count: int, add: AddBar) -> None:
        self._runner, self._add = runner, add
        self._devices = _devices(runner.device, count)
        self._recipe = Recipe(
            runner.pipeline.config.model_dump(mode="json"),
            runner.pipeline.source.name,
            runner.registry,
        )
        self._cores = max(1, usable_cores() // count)
        self._workers: list[Worker] = []
        self._begun: dict[str, tuple[PlannedStep, float]] = {}
        self._bars: dict[tuple[str, int], Bar] = {}
        self._done: set[str] = set()
        self._failed: dict[str, Exception] = {}
        self._asked = False

    def run(self, steps: Sequence[PlannedStep]) -> None:
        todo = {step.name: step for step in steps}
        needs = {name: {need for need in self._runner.needs(name) if need in todo} for name in todo}
        whole = self._add("in all", len(steps), "steps")
        while True:
            if self._runner.stopping:
                self._ask_to_stop()
            elif not self._failed:
                for name in [name for name in todo if needs[name] <= self._done]:
                    if (worker := self._free()) is None:
                        break
                    self._begin(todo.pop(name), worker)
            if not self._begun:
                break
            for worker in Worker.wait([worker for worker in self._workers if worker.step], _BETWEEN_LOOKS):
                for said in worker.said():
                    self._hear(worker, said)
                    if isinstance(said, Finished):
                        whole.advance()
        whole.finish()
        self._raise_what_failed()
        if self._runner.stopping:
            raise Interrupted("stopped", remedy="run the same command again to go on")

    def dismiss(self) -> None:
        """A step that still runs is interrupted."""
        for worker in self._workers:
            worker.close()
        for step, began in self._begun.values():
            self._runner.ended_by(step, KeyboardInterrupt(), time.monotonic() - began)

    def _ask_to_stop(self) -> None:
        if not self._asked:
            for worker in self._workers:
                worker.ask_to_stop()
            self._asked = True

    def _free(self) -> Worker | None:
        for worker in self._workers:
            if not worker.step:
                return worker
        if len(self._workers) == len(self._devices):
            return None
        device = self._devices[len(self._workers)]
        self._workers.append(Worker(self._recipe, cores=self._cores, device=device))
        return self._workers[-1]

    def _begin(self, step: PlannedStep, worker: Worker) -> None:
        self._runner.begin(step)
        self._begun[step.name] = step, time.monotonic()
        worker.start(step.name)

    def _hear(self, worker: Worker, said: Said) -> None:
        match said:
            case Note(text):
                self._say(f"{worker.step}: {text}")
            case BarBegun(bar, description, total, unit):
                self._bars[worker.step, bar] = self._add(f"{worker.step}: {description}", total, unit)
            case BarMoved(bar, amount, text):
                self._bars[worker.step, bar].describe(text)
                self._bars[worker.step, bar].advance(amount)
            case BarEnded(bar):
                self._bars.pop((worker.step, bar)).finish()
            case Figures(values, at):
                self._runner.tracking.figures(worker.step, values, at)
            case Finished():
                step, _ = self._begun[worker.step]
                for key in [key for key in self._bars if key[0] == worker.step]:
                    self._bars.pop(key).finish()  # of a process that died
                self._settle(step, said)
                del self._begun[worker.step]
                worker.step = ""

    def _settle(self, step: PlannedStep, said: Finished) -> None:
        error = said.outcome
        if not isinstance(error, Exception):
            try:
                self._runner.finish(step, error, said.notes, seconds=said.seconds, cpu_seconds=said.cpu_seconds)
                self._done.add(step.name)
                return
            except OccframeError as wrong:
                error = wrong
        told = self._runner.ended_by(step, error, said.seconds) or error
        if not isinstance(told, Interrupted):
            self._failed[step.name] = told
            others = ", ".join(name for name in self._begun if name != step.name)
            self._say(f"{step.name} failed: {first_line(told)}" + (f"; waiting for {others}" if others else ""))
            if told is said.outcome and isinstance(told, OccframeError):
                told.message = f"step `{step.name}`: {told.message}"

    def _raise_what_failed(self) -> None:
        errors = list(self._failed.values())
        # A fault of the code has lines to report; what users did wrong can be said together.
        for error in errors:
            if not isinstance(error, OccframeError):
                raise error
        if len(errors) > 1:
            raise OccframeError("\n".join(str(error) for error in errors))
        if errors:
            raise errors[0]

    def _say(self, text: str) -> None:
        self._runner.console.print(f"  {text}", markup=False, highlight=False)


def _devices(device: str, count: int) -> list[str]:
    """One a worker; where the pipeline leaves open which GPU, all of them in turn."""
    if device != "cuda":
        return [device] * count
    import torch

    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(count)]
