"""What 50 installed plugins add to ``occframe --help``, one of them broken: both sides interleaved, CPU time.

python benchmarks/many_plugins.py [--plugins 50] [--rounds 15] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_MS = 100.0
#: Each registers what a real one does: two components by lazy names, and a command.
MODULE = """
from occframe import hookimpl

@hookimpl
def occframe_register_backbones(register):
    register("net-{number}", "plugin_{number}.net:Net", config="plugin_{number}.configs:Net", summary="a network")

@hookimpl
def occframe_register_losses(register):
    register("loss-{number}", "plugin_{number}.loss:Loss", config="plugin_{number}.configs:Loss", summary="a loss")

@hookimpl
def occframe_register_commands(register):
    register("verb-{number}", "plugin_{number}.cli:verb", config=None, summary="does something")
"""


def install(site: Path, count: int) -> None:
    """``count`` distributions as pip leaves them, the last of which does not import."""
    for number in range(count):
        package = site / f"plugin_{number}"
        package.mkdir(parents=True)
        broken = "import nothing_of_that_name\n" if number == count - 1 else ""
        (package / "__init__.py").write_text(broken + MODULE.format(number=number))
        info = site / f"plugin_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[occframe]\nplugin-{number} = plugin_{number}\n")


def cpu_ms(site: Path | None) -> float:
    """Of one ``occframe --help``."""
    environment = os.environ | ({"PYTHONPATH": str(site)} if site else {})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "occframe", "--help"], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        install(site, options.plugins)
        cpu_ms(site)  # writes the byte code, as pip does on installing
        cpu_ms(None)
        pairs = [(cpu_ms(None), cpu_ms(site)) for _ in range(options.rounds)]
    added = [with_plugins - without for without, with_plugins in pairs]
    result = {
        "what": f"CPU milliseconds that {options.plugins} plugins, one of them broken, add to occframe --help",
        "without": round(statistics.median(without for without, _ in pairs), 1),
        "added": round(statistics.median(added), 1),
        "added_quartiles": [round(value, 1) for value in statistics.quantiles(added, n=4)[::2]],
        "limit": LIMIT_MS,
        "rounds": options.rounds,
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if result["added"] < LIMIT_MS else 1)


if __name__ == "__main__":
    main()
