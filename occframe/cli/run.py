from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from occframe.cli.common import inline_option, json_option, load, set_option, strict_option
from occframe.distributed import ranks
from occframe.machine import usable_cores


@click.command(epilog="A second run skips what is done and goes on where a stopped one ended.")
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option("--from", "start", metavar="STEP", help="Redo from this step on.")
@click.option("--only", metavar="STEP", help="Redo this step and nothing else.")
@click.option("--profile", is_flag=True, help="Write where the time of trainings goes into their directories.")
@click.option("--dry-run", is_flag=True, help="Show what would run, and why.")
@set_option
@inline_option
@strict_option
@json_option
def run(
    pipeline: Path,
    start: str | None,
    only: str | None,
    profile: bool,
    dry_run: bool,
    overrides: tuple[str, ...],
    inline: tuple[Path, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Run PIPELINE (a YAML file), or go on where it stopped."""
    if start and only:
        raise click.UsageError("--from and --only exclude each other")
    loaded, registry = load(pipeline, inline, strict, overrides)
    processes = loaded.config.engine.processes
    if processes > 1 and not ranks().several and not dry_run:
        _start(processes)
        return

    from occframe.pipeline import Runner

    runner = Runner(loaded, registry, Console(stderr=True), profile=profile)
    if dry_run:
        plan = runner.plan(start=start, only=only)
        if as_json:
            click.echo(json.dumps([asdict(step) for step in plan], indent=2))
            return
        width = max(len(step.name) for step in plan)
        for step in plan:
            click.echo(f"{step.action:6}  {step.name:{width}}  {step.why}")
        return
    result = runner.run(start=start, only=only)
    if not ranks().is_main:
        return
    if as_json:
        steps = {name: asdict(record) for name, record in result.steps.items()}
        click.echo(json.dumps({"run_dir": result.url, "headlines": result.headlines, "steps": steps}, indent=2))
        return
    for line in result.headlines:
        click.echo(line)


def _start(processes: int) -> None:
    """This very command, several times, under torchrun; its exit status becomes ours."""
    host = [sys.executable, "-m", "occframe.launching", "--standalone", f"--nproc-per-node={processes}"]
    command = [*host, "-m", "occframe", *sys.argv[1:]]
    # One thread each by default, says torchrun; cores divided is what a user means.
    threads = str(max(1, usable_cores() // processes))
    # torch's warnings in C++ advise its own developers.
    environment = {"OMP_NUM_THREADS": threads, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    # Seconds until who was told to stop is killed: some steps of training and a checkpoint.
    environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "120"
    # In a session of their own they are told once, by this process, whether a terminal stops it or somebody else.
    with subprocess.Popen(command, env=environment | os.environ, start_new_session=True) as running:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: running.send_signal(number))
        status = running.wait()
    if status:
        sys.exit(128 - status if status < 0 else status)
