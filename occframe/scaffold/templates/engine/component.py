"""Shares out the work of a step among threads. Put your cluster here."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue


class {{Class}}:
    """Fulfils ``occframe.types.Engine``."""

    #: The torch device that workers compute on; None: the pipeline's.
    device = None

    def __init__(self, config, context):
        self.workers = config.workers

    @contextmanager
    def start(self, makes):
        """A worker for each of ``makes``: called once, it gives the function that does the work."""
        with ThreadPoolExecutor(max(1, len(makes))) as pool:
            yield Crew(pool, list(pool.map(lambda make: make(), makes)))

    def close(self):
        """The run is over: disconnect from what was connected to."""


class Crew:
    """Fulfils ``occframe.types.Crew``. Threads do not die; workers that may have to be replaced here."""

    def __init__(self, pool, workers):
        self.pool, self.workers = pool, workers
        self.free = SimpleQueue()
        for worker in workers:
            self.free.put(worker)

    def map(self, items):
        """Results in the order of the items, each by a worker that was free."""
        return self.pool.map(self.work, items)

    def work(self, item):
        worker = self.free.get()
        try:
            given = worker(item)
            return list(given) if isinstance(given, Iterator) else given
        finally:
            self.free.put(worker)

    def ask_all(self, item):
        """What each worker gives for the same item, in the order in which they were made."""
        return list(self.pool.map(lambda worker: worker(item), self.workers))
