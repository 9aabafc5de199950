"""A good engine, and one for each promise that breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager

from occframe import Config, OccframeError, hookimpl


class NoOptions(Config):
    """Has none."""


work = None


def prepare(make):
    global work
    work = make()


def do(item):
    given = work(item)
    return list(given) if isinstance(given, Iterator) else given


class Process:
    """One process, and another one where it died."""

    def __init__(self, make):
        self.make = make
        self.begin()

    def begin(self):
        self.pool = ProcessPoolExecutor(1, initializer=prepare, initargs=(self.make,))

    def __call__(self, item):
        try:
            return self.pool.submit(do, item).result()
        except BrokenExecutor:
            self.begin()
            return self.pool.submit(do, item).result()


class Good:
    """Processes that take turns."""

    device = None
    workers = 2

    def __init__(self, config, context):
        self.used = False

    @contextmanager
    def start(self, makes):
        self.used = True
        processes = [Process(make) for make in makes]
        try:
            yield self.crew(processes)
        finally:
            for process in processes:
                process.pool.shutdown()

    def crew(self, processes):
        return Crew(processes)

    def close(self):
        pass


class Crew:
    def __init__(self, processes):
        self.processes = processes

    def map(self, items):
        for number, item in enumerate(items):
            yield self.processes[number % len(self.processes)](item)

    def ask_all(self, item):
        return [process(item) for process in self.processes]


class SaysWhatItOffers(Good):
    workers = "many"


class ResultsComeInOrder(Good):
    def crew(self, processes):
        crew = Crew(processes)
        crew.map = lambda items: [crew.processes[0](item) for item in reversed(items)]
        return crew


class IteratorsArrive(Good):
    def crew(self, processes):
        crew = Crew(processes)
        crew.map = lambda items: [str(processes[0](item)) for item in items]
        return crew


class AWorkerIsMadeOnce(Good):
    def crew(self, processes):
        crew = Crew(processes)
        crew.map = lambda items: [process.make()(item) for item in items for process in processes[:1]]
        return crew


class EveryWorkerAnswers(Good):
    def crew(self, processes):
        return Crew(processes[::-1])


class ErrorsArrive(Good):
    def crew(self, processes):
        crew = Crew(processes)

        def told(items):
            try:
                return list(Crew.map(crew, items))
            except OccframeError as error:
                raise RuntimeError(f"task failed: {error}") from error

        crew.map = told
        return crew


class ALostWorkerIsReplaced(Good):
    def crew(self, processes):
        crew = Crew(processes)
        crew.map = lambda items: [processes[0].pool.submit(do, item).result() for item in items]
        return crew


class MayBeClosedUnused(Good):
    def close(self):
        assert self.used


class Closes(Good):
    def close(self):
        del self.used


BROKEN = {
    "says_what_it_offers": SaysWhatItOffers,
    "results_come_in_order": ResultsComeInOrder,
    "iterators_arrive": IteratorsArrive,
    "a_worker_is_made_once": AWorkerIsMadeOnce,
    "every_worker_answers": EveryWorkerAnswers,
    "errors_arrive": ErrorsArrive,
    "a_lost_worker_is_replaced": ALostWorkerIsReplaced,
    "may_be_closed_unused": MayBeClosedUnused,
    "closes": Closes,
}


@hookimpl
def occframe_register_engines(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="processes")
