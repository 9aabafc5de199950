"""The engine ``ray``: what shares out work are Ray's actors; scheduling, transport and restarts are Ray's."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from occframe.component import BuildContext
from occframe.errors import OccframeError, first_line
from occframe.machine import usable_cores
from occframe_ray.configs import RayConfig

if TYPE_CHECKING:
    from occframe_ray.crew import ActorCrew


class RayEngine:
    """Fulfils ``occframe.types.Engine``. Nothing is started or connected to before the first worker is asked for.

    A Ray that this process is connected to already is used as it is, and left running. Ray's usage statistics are
    off. Raises OccframeError where Ray is not installed.
    """

    def __init__(self, config: RayConfig, context: BuildContext) -> None:
        if find_spec("ray") is None:
            raise OccframeError(
                "the engine `ray` needs Ray, which is not installed", remedy="pip install 'occframe[ray]'"
            )
        self._config = config
        self._ours = False
        self._refuse_nobody()

    @property
    def device(self) -> str:
        return "cuda" if self._config.gpus_per_actor else "cpu"

    @cached_property
    def workers(self) -> int:
        fitting = self._fitting()
        wanted = self._config.actors or fitting
        if not 1 <= wanted <= fitting:
            has, each = self._ray.cluster_resources(), self._config
            raise OccframeError(
                f"{self._where} has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs, too few for "
                f"{wanted or 1} actors of {each.cpus_per_actor:g} CPUs and {each.gpus_per_actor:g} GPUs",
                remedy="lower `actors`, `cpus_per_actor` or `gpus_per_actor`, or add machines to the cluster",
            )
        return wanted

    @contextmanager
    def start(self, makes: Sequence[Callable[[], Callable[[Any], Any]]]) -> Iterator[ActorCrew]:
        from occframe_ray.crew import ActorCrew

        assert self._ray.is_initialized()
        crew = ActorCrew(
            makes,
            cpus=self._config.cpus_per_actor,
            gpus=self._config.gpus_per_actor,
            restarts=self._config.restarts,
        )
        try:
            crew.make()
            yield crew
        finally:
            crew.end()

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()
            self._ours = False

    def _refuse_nobody(self) -> None:
        """Ray tries an address where nobody answers for a quarter of an hour, and a run may ask it late."""
        host, colon, port = self._config.address.rpartition(":")
        if not colon or "/" in host or not port.isdecimal():
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise self._no_cluster(error) from error

    def _no_cluster(self, error: Exception) -> OccframeError:
        return OccframeError(
            f"there is no Ray cluster at `{self._config.address}`: {first_line(error)}",
            remedy="`ray start --head` starts one, `ray start --address HOST:PORT` adds a machine to it; "
            "or write `address: local`",
        )

    @property
    def _where(self) -> str:
        return "this machine" if self._config.address == "local" else f"the Ray cluster `{self._config.address}`"

    def _fitting(self) -> int:
        """How many actors there is room for while nothing else runs there."""
        return sum(self._room(node["Resources"]) for node in self._ray.nodes() if node["Alive"])

    def _room(self, has: Mapping[str, float]) -> int:
        cpus, gpus = self._config.cpus_per_actor, self._config.gpus_per_actor
        room = [int(has.get("CPU", 0) / cpus + 1e-4)] if cpus else []  # 1 / 0.1 is less than 10
        if gpus:  # several share one, or one has several; none has halves of two
            whole = has.get("GPU", 0)
            room.append(int(whole) * int(1 / gpus + 1e-4) if gpus < 1 else int(whole / gpus))
        return min(room, default=usable_cores())

    @cached_property
    def _ray(self) -> Any:
        """The module, connected."""
        # Both are read when the module is imported. No telemetry, also of the processes it starts; and nothing of what
        # Ray tells of them on standard output, which belongs to the command's own result.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
        import ray

        if ray.is_initialized():
            return ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._config.address == "local":
            # Ray waits for ever for cores that are not there: those that were asked for are.
            wanted = math.ceil((self._config.actors or 0) * self._config.cpus_per_actor)
            quiet |= {"include_dashboard": False, "num_cpus": max(usable_cores(), wanted)}
        try:
            ray.init(address=self._config.address, **quiet)
        except Exception as error:  # of many kinds, plain Exception among them
            if self._config.address == "local":
                raise OccframeError(
                    f"Ray does not start on this machine: {first_line(error)}",
                    remedy="it may be too busy: run the same command again; /tmp/ray/session_latest/logs says more",
                ) from error
            raise self._no_cluster(error) from error
        self._ours = True
        return ray
