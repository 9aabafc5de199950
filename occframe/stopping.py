"""Ctrl-C as a request, and only the second time as an order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console


@contextmanager
def stop_on_signal(stop: threading.Event, console: Console) -> Iterator[None]:
    """First Ctrl-C (or SIGTERM): ask the step to stop at a good place. Second: stop now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("\n[yellow]stopping at the next safe place; press Ctrl-C again to stop at once[/]")

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
