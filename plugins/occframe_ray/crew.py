"""Actors that are given work: which one gets what, results in order, and what a user is told when one dies."""

from __future__ import annotations

import os
import pickle
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from occframe.errors import OccframeError, first_line

#: Items that an actor is given ahead, so that it does not wait for the next while its result travels.
_AHEAD = 2
#: Results for each actor that may wait for one before them, as after a death: the others go on meanwhile.
_WAITING = 4
_END = object()


class _Worker:
    """The actor. make: a working directory, and a reference that Ray leaves to us to look up, as it is in a tuple.

    It comes with every call, and the first one makes: Ray tells the cause of a call that failed, but not of an actor
    that could not be made, and an actor that was started again begins with such a call.
    """

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None
        self._life = uuid.uuid4().hex  # two machines may give two processes the same number

    def get_ready(self, make: tuple[str, Any]) -> str:
        """Which life of the actor is ready: another one after each death."""
        if self._work is None:
            folder, reference = make
            with suppress(OSError):  # a machine that shares nothing but URLs
                os.chdir(folder)
            self._work = ray.get(reference)()
        return self._life

    def do(self, make: tuple[str, Any], item: Any) -> tuple[str, Any]:
        """The life that did it, and what it gave."""
        life = self.get_ready(make)
        assert self._work is not None
        given = self._work(item)
        return life, list(given) if isinstance(given, Iterator) else given


class ActorCrew:
    """Fulfils ``occframe.types.Crew``. restarts: of each actor."""

    def __init__(
        self, makes: Sequence[Callable[[], Callable[[Any], Any]]], *, cpus: float, gpus: float, restarts: int
    ) -> None:
        self._restarts = restarts
        self._lives: set[str] = set()
        actor: Any = ray.remote(_Worker).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=restarts, max_task_retries=restarts
        )
        try:
            # One copy in the object store, however many actors are made of it.
            sent = {id(make): ray.put(make) for make in makes}
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise OccframeError(
                f"what the workers need cannot be sent to them: {first_line(error)}",
                remedy="a data set or component used here cannot be pickled; `occframe plugins check` says which",
            ) from error
        self._makes = [(str(Path.cwd()), sent[id(make)]) for make in makes]
        self._actors = [actor.remote() for _ in makes]

    def make(self) -> None:
        """Wait until every actor is there and has made what it works with. Raises what one raised."""
        # Those that give nothing before they die are counted from here.
        asked = [actor.get_ready.remote(make) for actor, make in zip(self._actors, self._makes, strict=True)]
        self._lives.update(self._get(asked))

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        queue = iter(items)
        order: deque[Any] = deque()
        doing: dict[Any, int] = {}
        load = [0] * len(self._actors)
        while True:
            while len(order) < _WAITING * len(load) and min(load) < _AHEAD and (item := next(queue, _END)) is not _END:
                freest = load.index(min(load))
                result = self._actors[freest].do.remote(self._makes[freest], item)
                order.append(result)
                doing[result] = freest
                load[freest] += 1
            if not order:
                return
            for result in ray.wait(list(doing))[0] if doing else ():
                load[doing.pop(result)] -= 1
            while order and order[0] not in doing:
                life, given = self._get(order.popleft())
                self._lives.add(life)
                yield given

    def ask_all(self, item: Any) -> list[Any]:
        sent = ray.put(item)
        asked = [actor.do.remote(make, sent) for actor, make in zip(self._actors, self._makes, strict=True)]
        found = self._get(asked)
        self._lives.update(life for life, _ in found)
        return [given for _, given in found]

    @property
    def notes(self) -> list[str]:
        lost = len(self._lives) - len(self._actors)
        return [f"workers died and were started again, {lost} in all"] if lost > 0 else []

    def end(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _get(self, results: Any) -> Any:
        try:
            return ray.get(results)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OccframeError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise OccframeError(
                f"a worker died, and after it all {self._restarts} in its place: {first_line(error)}",
                remedy="where memory ran out, fewer `actors` help; Ray's logs (/tmp/ray/session_latest/logs) say more; "
                "what is committed is kept: run again to go on",
            ) from error
