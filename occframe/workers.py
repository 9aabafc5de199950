"""Steps in processes of their own, several at a time: for pipelines whose steps need little of each other.

A worker reads the same pipeline, runs the steps it is told, and says over a pipe what they say. It writes nothing but
the directory of its step: the run's manifest, lock and display stay with the process that started it.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from occframe.errors import OccframeError
from occframe.machine import CORES
from occframe.step import Progress, StepOutcome

if TYPE_CHECKING:
    from occframe.plugins import PluginRegistry

#: How long a worker that is told to go may take until it is made to.
_PATIENCE = 10.0
_BETWEEN_MOVES = 0.1  # seconds


@dataclass(frozen=True)
class Recipe:
    """What a worker makes its pipeline from. config: of the pipeline, as plain data. source: what it is called."""

    config: Mapping[str, Any]
    source: str
    registry: PluginRegistry


# --- what a worker says -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    text: str


@dataclass(frozen=True)
class BarBegun:
    bar: int
    description: str
    total: int | None
    unit: str


@dataclass(frozen=True)
class BarMoved:
    """text: beside the bar."""

    bar: int
    amount: int
    text: str


@dataclass(frozen=True)
class BarEnded:
    bar: int


@dataclass(frozen=True)
class Figures:
    """For the run's trackers."""

    values: Mapping[str, float]
    step: int


@dataclass(frozen=True)
class Finished:
    """outcome: what the step made; an error where it made nothing."""

    outcome: StepOutcome | Exception
    notes: tuple[str, ...]
    seconds: float
    cpu_seconds: float


Said = Note | BarBegun | BarMoved | BarEnded | Figures | Finished


# --- the process that starts them -------------------------------------------------------------------------------------


class Worker:
    """A process that runs one step at a time. step: the one it runs, "" while it has none.

    cores: it may use. device: it computes on. Raises PluginError: a plugin cannot be found by another process.
    """

    def __init__(self, recipe: Recipe, *, cores: int, device: str) -> None:
        self.step = ""
        self._link, its_end = get_context("spawn").Pipe()
        # Packed here: unpacking it loads plugins, which may import what reads its number of threads then.
        self._process: BaseProcess = get_context("spawn").Process(
            target=_work, args=(its_end, pickle.dumps(recipe), cores, device)
        )
        with _signals_held_back():
            self._process.start()
        its_end.close()

    def start(self, step: str) -> None:
        self.step = step
        with suppress(OSError):  # it may be dead, which is noticed where it is listened to
            self._link.send(step)

    def ask_to_stop(self) -> None:
        """The step ends at its next safe place."""
        with suppress(OSError):
            self._link.send(None)

    def said(self) -> Iterator[Said]:
        """What it said since the last call. Its death is said by a ``Finished`` with an error."""
        while True:
            try:
                if not self._link.poll():
                    return
                yield self._link.recv()
            except (EOFError, OSError):
                self._process.join()
                yield Finished(_death(self._process.exitcode), (), 0.0, 0.0)
                return

    def close(self) -> None:
        """Without work it goes by itself; in the middle of a step it is made to."""
        if not self.step:
            with suppress(OSError):
                self._link.send("")
                self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join()
        self._process.close()
        self._link.close()

    @staticmethod
    def wait(workers: list[Worker], seconds: float) -> list[Worker]:
        """Those that have said something; all of them may be silent for ``seconds``."""
        by_link = {worker._link: worker for worker in workers}
        return [by_link[link] for link in wait(list(by_link), seconds) if isinstance(link, Connection)]


def _death(status: int | None) -> OccframeError:
    killed = signal.Signals(-status).name if status is not None and status < 0 else f"exit status {status}"
    return OccframeError(
        f"its process ended ({killed}) before it did",
        remedy="if memory ran out, as with SIGKILL it may have: run again with fewer --processes; what is done is kept",
    )


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process begun inside inherits that: Ctrl-C, which every process of a terminal gets, is for the first alone."""
    resource_tracker.ensure_running()  # or the first start would do it, and let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- the worker -------------------------------------------------------------------------------------------------------


def _work(link: Connection, packed: bytes, cores: int, device: str) -> None:
    """Runs the steps it is told until it is told none."""
    # Read by torch and numpy when they are imported, below.
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    os.environ[CORES] = str(cores)
    voice, stop = _Voice(link), threading.Event()
    steps: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(link, steps, stop), daemon=True).start()

    from rich.console import Console

    from occframe.config import load_pipeline
    from occframe.pipeline import Runner, RunningStep
    from occframe.rundir import RunDir
    from occframe.yamlfile import dump_yaml, parse_yaml

    class Context(RunningStep):
        """Tells the starter what it would tell the user."""

        def progress(self, description: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
            return voice.bar(description, total, unit)

        def note(self, text: str) -> None:
            self.notes.append(text)
            voice.say(Note(text))

        def track(self, figures: Mapping[str, float], step: int) -> None:
            voice.say(Figures(dict(figures), step))

        @property
        def stop_requested(self) -> Callable[[], bool]:
            return stop.is_set

    runner: Runner | None = None
    while name := steps.get():
        began, worked = time.monotonic(), time.process_time()
        notes: list[str] = []
        outcome: StepOutcome | Exception
        try:
            if runner is None:
                recipe: Recipe = pickle.loads(packed)
                raw = dict(recipe.config) | {"device": device}
                pipeline = load_pipeline(parse_yaml(dump_yaml(raw), recipe.source), recipe.registry)
                runner = Runner(pipeline, recipe.registry, Console(quiet=True))
            runner.run_dir = RunDir(runner.run_dir.url)  # with what the steps before made
            context = Context(runner, name, runner.pipeline.steps[name], runner.run_dir.step_url(name))
            notes = context.notes
            outcome = context.build.build(runner.pipeline.steps[name]).run(context)
        except Exception as error:
            if not isinstance(error, OccframeError):
                error.add_note(f"The process of step `{name}` said:\n{traceback.format_exc()}")
            outcome = error
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - worked
        voice.say(Finished(_sendable(outcome), tuple(notes), seconds, cpu_seconds))


def _sendable(outcome: StepOutcome | Exception) -> StepOutcome | Exception:
    """What can be told to another process: a class of an inline plugin is not known there."""
    try:
        pickle.loads(pickle.dumps(outcome))
        return outcome
    except Exception as error:
        lost = RuntimeError(f"{type(outcome).__name__}: {outcome}")
        for note in getattr(outcome, "__notes__", [repr(error)]):
            lost.add_note(note)
        return lost


def _listen(link: Connection, steps: SimpleQueue[str], stop: threading.Event) -> None:
    while True:
        try:
            told = link.recv()
        except (EOFError, OSError):
            os._exit(1)  # nobody waits for what is being done
        if told is None:
            stop.set()
        else:
            steps.put(told)


class _Voice:
    """Any thread of a step may use it."""

    def __init__(self, link: Connection) -> None:
        self._link, self._lock, self._bars = link, threading.Lock(), 0

    def say(self, what: Said) -> None:
        with self._lock:
            self._link.send(what)

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Progress]:
        with self._lock:
            self._bars += 1
            bar = _Bar(self, self._bars)
        self.say(BarBegun(bar.number, description, total, unit))
        try:
            yield bar
        finally:
            bar.tell()
            self.say(BarEnded(bar.number))


class _Bar:
    """Moves are told some times a second, however small they are."""

    def __init__(self, voice: _Voice, number: int) -> None:
        self.number = number
        self._voice, self._amount, self._text, self._next = voice, 0, "", 0.0

    def advance(self, amount: int = 1) -> None:
        self._amount += amount
        if (now := time.monotonic()) >= self._next:
            self._next = now + _BETWEEN_MOVES
            self.tell()

    def describe(self, text: str) -> None:
        self._text = text

    def tell(self) -> None:
        amount, self._amount = self._amount, 0
        self._voice.say(BarMoved(self.number, amount, self._text))
