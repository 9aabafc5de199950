"""Indexes of galleries: building one from Parquet, and searching through the store, against bare FAISS and autofaiss.

Every build runs in a process of its own, so that memory can be told; what is compared with what stands at each row.
autofaiss needs an environment of its own (`python -m venv … && pip install autofaiss`): name its Python in
AUTOFAISS_PYTHON, or its row is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import Comparison, interleave, main, seconds

DIM = 512
_RIVAL = os.environ.get("AUTOFAISS_PYTHON")


def unit_rows(count: int, seed: int) -> np.ndarray:
    """Four pictures each of people who differ in 128 directions: array [count, DIM] float16 of norm 1."""
    rng = np.random.default_rng(seed)
    spread = np.random.default_rng(0).standard_normal((128, DIM), dtype=np.float32) / 128**0.5
    rows = np.empty((count, DIM), np.float16)
    for start in range(0, count, 65_536):
        stop = min(start + 65_536, count)
        people = np.repeat(rng.standard_normal(((stop - start + 3) // 4, 128), dtype=np.float32), 4, axis=0)
        drawn = people[: stop - start] @ spread + 0.6 * rng.standard_normal((stop - start, DIM), dtype=np.float32)
        rows[start:stop] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return rows


def write_gallery(url: str, rows: np.ndarray) -> None:
    from occframe.gallery import GallerySchema, GalleryWriter
    from occframe.types import ImageSpec

    with GalleryWriter(url, GallerySchema(dim=DIM, model_fingerprint="bench", image_spec=ImageSpec())) as writer:
        for start in range(0, len(rows), 65_536):
            numbers = range(start, min(start + 65_536, len(rows)))
            writer.write(
                [f"person-{at:08}" for at in numbers], [f"s{at // 4}" for at in numbers], rows[start : numbers.stop]
            )


# --- processes of their own -------------------------------------------------------------------------------------------


def memory(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


class PeakAnon:
    """The most anonymous memory of this process while the block ran, beyond what it had before; bytes."""

    def __enter__(self) -> PeakAnon:
        self.before = self.peak = memory("RssAnon")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, memory("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, memory("RssAnon"))

    @property
    def added(self) -> int:
        return self.peak - self.before


def build_ours(gallery: str, options: str) -> dict[str, Any]:
    """Opened, read, indexed and searched once: as a server would begin."""
    from occframe.component import MatcherBlock
    from occframe.gallery import Gallery
    from occframe.gallery.indexing import build_matcher
    from occframe.standalone import parse_block, standalone_context

    context = standalone_context()
    block = parse_block(MatcherBlock, json.loads(options), context)
    context.build(block)  # imports what it needs
    import faiss

    query = unit_rows(4, 9)[:1].astype(np.float32)
    with PeakAnon() as watched:
        took = seconds(lambda: build_matcher(Gallery.open(gallery), block, context).search(query, 1))
    return {"seconds": took, "anon": watched.added, "peak": memory("VmHWM"), "faiss": faiss.__version__}


def build_bare(count: str, _: str) -> dict[str, Any]:
    """``add_sa_codes`` of float16 rows that are in memory, and one search."""
    import faiss

    rows = unit_rows(int(count), 1)
    query = unit_rows(4, 9)[:1].astype(np.float32)
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    with PeakAnon() as watched:
        took = seconds(lambda: (index.add_sa_codes(rows.view(np.uint8)), index.search(query, 1)))
    return {"seconds": took, "anon": watched.added, "peak": memory("VmHWM")}


def build_autofaiss(folder: str, key: str) -> dict[str, Any]:
    from autofaiss import build_index  # type: ignore[import-not-found]

    with PeakAnon() as watched:
        took = seconds(
            lambda: build_index(
                folder,
                file_format="parquet",
                embedding_column_name="embedding",
                index_key=key,
                index_param="nprobe=16",  # given, so that nothing is tuned
                metric_type="l2",  # it refuses the key for inner products; normalised rows have the same neighbours
                save_on_disk=False,
                max_index_memory_usage="4G",
                current_memory_available="16G",
                nb_cores=len(os.sched_getaffinity(0)),
                verbose=40,
            )
        )
    return {"seconds": took, "anon": watched.added, "peak": memory("VmHWM")}


CHILDREN: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "ours": build_ours,
    "bare": build_bare,
    "autofaiss": build_autofaiss,
}


def in_process(name: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    done = subprocess.run([python, __file__, "--child", name, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- what is compared -------------------------------------------------------------------------------------------------


def building(gallery: str, count: int, rounds: int) -> list[Comparison]:
    index_bytes = count * DIM * 2
    block = json.dumps({"use": "faiss", "profile": "fp16"})
    ours: list[dict[str, Any]] = []

    def our_seconds() -> float:
        ours.append(in_process("ours", gallery, block))
        return float(ours[-1]["seconds"])

    row = interleave(
        f"Parquet -> exact fp16, {count:,}, over add_sa_codes",
        our_seconds,
        lambda: float(in_process("bare", str(count), "")["seconds"]),
        unit="s",
        bar="<= 1.5",
        rounds=rounds,
    )
    over = max(item["anon"] for item in ours) - index_bytes
    return [row, _figure("  its anonymous memory beyond the index", over / 1e6, 256.0, "MB", "<= 256 MB")]


def against_autofaiss(folder: Path, count: int, rounds: int) -> list[Comparison]:
    if _RIVAL is None:
        print("AUTOFAISS_PYTHON is not set: its row is left out", file=sys.stderr)
        return []
    rows = unit_rows(count, 2)
    write_gallery(str(folder / "small"), rows)
    (folder / "lists").mkdir()
    _write_lists(folder / "lists" / "part.parquet", rows)
    key = "IVF512,SQfp16"
    block = json.dumps({"use": "faiss", "profile": "ivf-fp16", "lists": 512, "probes": 16})
    memories: dict[str, list[float]] = {"ours": [], "theirs": []}

    def side(name: str, *arguments: str, python: str = sys.executable) -> float:
        found = in_process(name, *arguments, python=python)
        memories["ours" if name == "ours" else "theirs"].append(found["anon"] / 1e6)
        return float(found["seconds"])

    row = interleave(
        f"{key}, {count:,}, over autofaiss",
        lambda: side("ours", str(folder / "small"), block),
        lambda: side("autofaiss", str(folder / "lists"), key, python=str(_RIVAL)),
        unit="s",
        bar="<= 0.33",
        rounds=rounds,
    )
    ours, theirs = (max(memories[name]) for name in ("ours", "theirs"))
    return [row, _figure("  its peak of anonymous memory", ours, theirs, "MB", "< 0.5")]


def _write_lists(path: Path, rows: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(rows.astype(np.float32).ravel())
    offsets = pa.array(np.arange(0, flat.__len__() + 1, DIM, dtype=np.int32))
    pq.write_table(pa.table({"embedding": pa.ListArray.from_arrays(offsets, flat)}), path)


def searching(gallery: str, rows: np.ndarray, rounds: int) -> list[Comparison]:
    """1 % deleted and 1 % added since the index was built, against bare FAISS over what is then there."""
    import faiss

    from occframe.component import MatcherBlock
    from occframe.gallery import Gallery
    from occframe.gallery.indexing import build_index, build_matcher
    from occframe.gallery.searching import open_searcher
    from occframe.standalone import parse_block, standalone_context

    context = standalone_context()
    block = parse_block(MatcherBlock, {"use": "faiss", "profile": "fp16"}, context)
    opened = Gallery.open(gallery)
    build_index(opened, block, context)
    part = len(rows) // 100
    dead = np.random.default_rng(3).choice(len(rows), part, replace=False)
    opened.delete([f"person-{at:08}" for at in dead.tolist()])
    fresh = unit_rows(part, 4)
    opened.append([f"new-{at}" for at in range(part)], ["new"] * part, fresh, model_fingerprint="bench")
    searcher = open_searcher(gallery, context)
    assert (searcher.beside, searcher.deleted) == (part, part)

    clean = np.concatenate([np.delete(rows, dead, axis=0), fresh])
    bare = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    bare.add_sa_codes(clean.view(np.uint8))
    matcher: Any = build_matcher(Gallery.open(gallery), block, context)
    queries = unit_rows(256, 5).astype(np.float32)
    del clean
    same = searcher.search(queries, 10).ids == matcher.search(queries, 10).ids
    print(f"hits like those of a clean rebuild: {same.mean():.6f}", file=sys.stderr)

    def rate(search: Callable[[np.ndarray, int], Any]) -> float:
        return 256 / seconds(lambda: search(queries, 10))

    def single(search: Callable[[np.ndarray, int], Any]) -> float:
        times = []
        for query in range(8):
            began = time.perf_counter()
            search(queries[query : query + 1], 10)
            times.append(time.perf_counter() - began)
        return 1e3 * sorted(times)[len(times) // 2]

    name = f"store with 1 % dead, 1 % new, {len(rows):,}"
    return [
        interleave(
            f"{name}, batch, over bare FAISS",
            lambda: rate(searcher.search),
            lambda: rate(bare.search),
            unit="queries/s",
            bar=">= 0.95",
            rounds=rounds,
        ),
        interleave(
            "  over our matcher on a clean rebuild",
            lambda: rate(searcher.search),
            lambda: rate(matcher.search),
            unit="queries/s",
            bar="-",
            rounds=rounds,
        ),
        interleave(
            f"{name}, one query, over bare FAISS",
            lambda: single(searcher.search),
            lambda: single(bare.search),
            unit="ms",
            bar="<= +0.3 ms",
            rounds=rounds,
        ),
        interleave(
            "  over our matcher on a clean rebuild",
            lambda: single(searcher.search),
            lambda: single(matcher.search),
            unit="ms",
            bar="-",
            rounds=rounds,
        ),
    ]


def overhead(folder: Path, rounds: int) -> list[Comparison]:
    """What the store adds to one query whatever the rows cost: a gallery so small that searching it costs nothing."""
    from occframe.component import MatcherBlock
    from occframe.gallery import Gallery
    from occframe.gallery.indexing import build_index, build_matcher
    from occframe.gallery.searching import open_searcher
    from occframe.standalone import parse_block, standalone_context

    url, rows = str(folder / "tiny"), unit_rows(1000, 6)
    write_gallery(url, rows)
    context = standalone_context()
    block = parse_block(MatcherBlock, {"use": "faiss", "profile": "fp16"}, context)
    opened = Gallery.open(url)
    build_index(opened, block, context)
    opened.delete([f"person-{at:08}" for at in range(10)])
    opened.append([f"new-{at}" for at in range(10)], ["new"] * 10, unit_rows(10, 7), model_fingerprint="bench")
    searcher = open_searcher(url, context)
    matcher: Any = build_matcher(Gallery.open(url), block, context)
    bare = matcher._rows.index
    query = unit_rows(4, 8)[:1].astype(np.float32)

    def single(search: Callable[[np.ndarray, int], Any]) -> float:
        return 1e3 * min(seconds(lambda: search(query, 10)) for _ in range(200))

    return [
        interleave(
            "one query among 1,000 rows, over bare FAISS",
            lambda: single(searcher.search),
            lambda: single(bare.search),
            unit="ms",
            bar="<= +0.3 ms",
            rounds=rounds,
        )
    ]


def _figure(name: str, ours: float, theirs: float, unit: str, bar: str) -> Comparison:
    ratio = ours / theirs
    return Comparison(name, unit, ours, theirs, ratio, ratio, ratio, bar, 1)


def compare(quick: bool) -> list[Comparison]:
    count, small, rounds = (20_000, 20_000, 1) if quick else (1_000_000, 200_000, 3)
    folder = Path(tempfile.mkdtemp(prefix="occframe-gallery-"))
    try:
        rows = unit_rows(count, 1)
        gallery = str(folder / "gallery")
        write_gallery(gallery, rows)
        return [
            *building(gallery, count, rounds),
            *against_autofaiss(folder, small, min(rounds, 3)),
            *searching(gallery, rows, rounds),
            *overhead(folder, rounds),
        ]
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:5])))
    else:
        main(compare)
