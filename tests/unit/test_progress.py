"""Lines where there is no terminal: rate, time left, and nothing at all for what is quick."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from occframe import progress


def run(monkeypatch, seconds_each, steps, total):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = StringIO()
    with progress.show_progress("embed", total, "images", console=Console(file=stream)) as bar:
        for _ in range(steps):
            clock[0] += seconds_each
            bar.describe("loss 0.5")
            bar.advance(10)
    return stream.getvalue().splitlines()


def test_quick_work_prints_nothing(monkeypatch):
    assert run(monkeypatch, 0.1, 10, 100) == []


def test_long_work_prints_now_and_then_and_at_the_end(monkeypatch):
    lines = run(monkeypatch, 1.0, 30, 300)
    assert lines[0] == "  embed: 20/300 images, 10.0/s, 28 s left, loss 0.5"
    assert lines[-1] == "  embed: 300/300 images, 10.0/s, loss 0.5"
    assert len(lines) == 4


def test_an_unknown_total(monkeypatch):
    assert run(monkeypatch, 3.0, 1, None)[-1] == "  embed: 10 images, 3.3/s, loss 0.5"


def test_a_terminal_gets_a_bar():
    stream = StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with progress.show_progress("embed", 10, "images", console=console) as bar:
        bar.advance(10)
        bar.describe("done")
    assert "10/10" in stream.getvalue()
