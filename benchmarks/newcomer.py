"""The path of a newcomer, timed in CPU seconds: ``new-plugin``, install, check, first edit, install, check.

    python benchmarks/newcomer.py [--kind occlusion] [--out FILE]

Installed into a folder of its own behind PYTHONPATH; what occframe itself needs is there already. Installing is pip
building a wheel without isolation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="occlusion")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = path_of_a_newcomer(Path(folder), options.kind)
    result = {
        "what": f"CPU seconds from nothing to a checked {options.kind} plugin",
        "seconds": seconds,
        "total": round(sum(seconds.values()), 2),
        "limit": LIMIT,
        "python": platform.python_version(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    sys.exit(0 if result["total"] < LIMIT else 1)


def path_of_a_newcomer(folder: Path, kind: str) -> dict[str, float]:
    """CPU seconds by step. Raises CalledProcessError where a step fails."""
    project, site = folder / "first-try", folder / "site"
    environment = os.environ | {"PYTHONPATH": str(site)}
    occframe = [sys.executable, "-m", "occframe"]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    steps = {
        "new-plugin": [*occframe, "new-plugin", "first-try", "--kind", kind, "--into", str(folder)],
        "install": [*pip, str(project)],
        "check": [*occframe, "plugins", "check", "first-try"],
        "install after the first edit": [*pip, "--upgrade", str(project)],
        "check after the first edit": [*occframe, "plugins", "check", "first-try"],
    }
    seconds = {}
    for name, command in steps.items():
        if name == "install after the first edit":
            edit(project / "first_try" / "__init__.py")
        before = cpu_seconds()
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
        seconds[name] = round(cpu_seconds() - before, 2)
        print(f"{name}: {seconds[name]} s of CPU, {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return seconds


def cpu_seconds() -> float:
    """Of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def edit(file: Path) -> None:
    """What a newcomer changes first: the line that says what it is."""
    text = file.read_text()
    changed = text.replace('summary="', 'summary="my first try: ')
    assert changed != text
    file.write_text(changed)


if __name__ == "__main__":
    main()
