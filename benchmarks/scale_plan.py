"""What a billion faces cost, from rates that were measured here: the tables of ``docs/scale.md``.

    python -m benchmarks.scale_plan [--faces 1_000_000_000] [--nodes 16] [--write]

Everything is proportional: rates per core of ``benchmarks/results`` times cores, bytes per face times faces, and what
the matchers say of themselves (``occframe gallery plan``) for the part of the faces that one node holds.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from occframe.gallery.planning import as_bytes, plan
from occframe.plugins import PluginRegistry

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "scale.md"
_BLOCK = re.compile(r"(<!-- plan -->\n)(.*?)(<!-- /plan -->)", re.DOTALL)
#: Cores of the machine whose rates are committed.
MEASURED_CORES = 2
DIM = 512
#: Beside its embedding a row has an id and a subject; 16 characters each are usual.
ROW_BYTES = 2 * DIM + 2 * 20


@dataclass(frozen=True)
class Cluster:
    """faces: in all. nodes, cores, memory: of the cluster; memory in bytes a node. picture: bytes of one, as JPEG."""

    faces: int = 1_000_000_000
    nodes: int = 16
    cores: int = 64
    memory: int = 512 * 2**30
    picture: int = 6_000


def rates() -> dict[str, float]:
    """Images a second and core, by backbone."""
    measured = json.loads((HERE / "results" / "perf-embed.json").read_text())
    return {
        row["name"].split(", ")[1]: row["ours"] / MEASURED_CORES
        for row in measured["rows"]
        if "occluded" not in row["name"]
    }


def tables(cluster: Cluster) -> str:
    return (
        "\n\n".join(["\n".join(_sizes(cluster)), "\n".join(_embedding(cluster)), "\n".join(_searching(cluster))]) + "\n"
    )


def _sizes(cluster: Cluster) -> Iterator[str]:
    yield f"| {cluster.faces:,} faces, {cluster.nodes} nodes of {cluster.cores} cores | in all | a node |"
    yield "|---|---|---|"
    sizes = {
        f"pictures, 112 × 112 JPEG of {cluster.picture:,} bytes": cluster.picture,
        "embeddings as 512 float32": 4 * DIM,
        "gallery: 512 float16, id, subject": ROW_BYTES,
        "RaBitQ codes and ids": DIM // 8 + 16,
    }
    for name, size in sizes.items():
        whole = size * cluster.faces
        yield f"| {name} | {_large(whole)} | {_large(whole / cluster.nodes)} |"


def _embedding(cluster: Cluster) -> Iterator[str]:
    yield "| embedding on CPUs, bf16 | images/s a core | hours in all | core-hours | pictures read, MB/s a node |"
    yield "|---|---|---|---|---|"
    for name, rate in rates().items():
        core_hours = cluster.faces / rate / 3600
        hours = core_hours / (cluster.nodes * cluster.cores)
        reading = rate * cluster.cores * cluster.picture / 1e6
        yield f"| {name} | {rate:,.0f} | {hours:,.1f} | {core_hours:,.0f} | {reading:,.0f} |"


def _searching(cluster: Cluster) -> Iterator[str]:
    yield "| one node's share, searched by all nodes at once | matcher | memory | building | a query | queries/s |"
    yield "|---|---|---|---|---|---|"
    registry = PluginRegistry.discover()
    share = -(-cluster.faces // cluster.nodes)
    for recall in (1.0, 0.97, 0.9):
        for memory in (cluster.memory, cluster.memory // 16):
            found = plan(registry, share, DIM, memory=memory, recall=recall, cores=cluster.cores).chosen
            head = f"| recall {recall:g}, {as_bytes(memory)} |"
            if found is None:
                yield f"{head} none fits | | | | |"
                continue
            offer = found.offer
            options = ", ".join(f"{key}: {value}" for key, value in found.block.items())
            yield (
                f"{head} `{options}` | {as_bytes(offer.memory)} | {offer.build_seconds / 3600:.1f} h | "
                f"{offer.latency_ms:,.1f} ms | {offer.queries_per_s:,.0f} |"
            )


def _large(size: float) -> str:
    return f"{size / 1e12:.1f} TB" if size >= 1e12 else f"{size / 1e9:.0f} GB"


def render(page: str, cluster: Cluster) -> str:
    return _BLOCK.sub(lambda match: match[1] + tables(cluster) + match[3], page)


def main() -> None:
    usual = Cluster()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=usual.faces)
    parser.add_argument("--nodes", type=int, default=usual.nodes)
    parser.add_argument("--cores", type=int, default=usual.cores, help="of a node")
    parser.add_argument("--memory-gib", type=int, default=usual.memory >> 30, help="of a node")
    parser.add_argument("--picture-bytes", type=int, default=usual.picture)
    parser.add_argument("--write", action="store_true", help="into docs/scale.md; else to standard output")
    chosen = parser.parse_args()
    cluster = Cluster(chosen.faces, chosen.nodes, chosen.cores, chosen.memory_gib << 30, chosen.picture_bytes)
    if chosen.write:
        PAGE.write_text(render(PAGE.read_text(), cluster))
    else:
        print(tables(cluster), end="")


if __name__ == "__main__":
    main()
