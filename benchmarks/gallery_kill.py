"""A gallery whose writer is killed at random instants: does every promise of docs/gallery.md hold each time?

A process forked from this one, with everything imported, changes a gallery in ways that follow from a seed: it appends,
replaces, deletes and compacts. It is killed (SIGKILL) at an instant drawn at random, and ``check`` then compares the
gallery with what the same changes make of a dictionary.

    python benchmarks/gallery_kill.py [--kills 200] [--seed 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from occframe.gallery import Gallery, GallerySchema
from occframe.gallery.verification import check_gallery
from occframe.types import ImageSpec

DIM = 32
CHANGES = 12
#: What belongs into the folder beside the parts; the last one is not ours, and nobody may remove it.
BESIDE = {"manifest.json", "manifest.lock", "writers.lock", "notes.txt"}

Rows = dict[str, tuple[str, bytes]]  # by id: subject and the float16 embedding


@dataclass(frozen=True)
class Change:
    """kind: append, replace, delete, forget (a subject) or compact. rows: what is written. names: what is deleted."""

    kind: str
    rows: Rows
    names: tuple[str, ...]

    def on_gallery(self, gallery: Gallery) -> None:
        if self.kind == "compact":
            gallery.compact()
        elif self.kind == "delete":
            gallery.delete(self.names)
        elif self.kind == "forget":
            gallery.delete(subjects=self.names)
        else:
            vectors = np.frombuffer(b"".join(vector for _, vector in self.rows.values()), "<f2").reshape(-1, DIM)
            subjects = [subject for subject, _ in self.rows.values()]
            gallery.append(list(self.rows), subjects, vectors, model_fingerprint="m", replace=self.kind == "replace")

    def on_rows(self, rows: Rows) -> Rows:
        gone = {name for name, (subject, _) in rows.items() if name in self.names or subject in self.names}
        return {name: row for name, row in rows.items() if name not in gone | self.rows.keys()} | self.rows


def draw_changes(seed: int) -> tuple[list[Change], list[Rows]]:
    """Changes, and the rows there are before the first and after each."""
    random = np.random.default_rng(seed)
    changes, states, made = [], [Rows()], 0
    for number in range(CHANGES):
        there = states[-1]
        kinds = ["append", "replace", "delete", "forget", "compact"] if number else ["append"]
        kind = str(random.choice(kinds))
        some = [str(name) for name in random.choice(list(there), min(len(there), 20), replace=False)] if there else []
        rows, names = Rows(), tuple(some)
        if kind in ("append", "replace"):
            fresh = [f"face-{seed}-{made + row}" for row in range(int(random.integers(1, 300)))]
            made += len(fresh)
            drawn = random.standard_normal((len(fresh) + len(some), DIM)).astype(np.float32)
            vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype("<f2")
            written = fresh + (some if kind == "replace" else [])
            rows = {
                name: (f"person-{seed}-{sum(name.encode()) % 97}", vectors[row].tobytes())
                for row, name in enumerate(written)
            }
        change = Change(
            kind,
            rows,
            () if rows or kind == "compact" else (there[some[0]][0],) if kind == "forget" and some else names,
        )
        changes.append(change)
        states.append(change.on_rows(there))
    return changes, states


def run_and_kill(url: str, changes: list[Change], after: int, seconds: float) -> int:
    """Fork, change the gallery there, and kill ``seconds`` after so many changes. Returns how many were surely done."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            gallery = Gallery.open(url)
            for change in changes:
                change.on_gallery(gallery)
                os.write(writing, b".")
            signal.pause()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        done = 0
        while done < after and (got := os.read(reading, after - done)):
            done += len(got)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the process failed before it was killed"
        while got := os.read(reading, 4096):
            done += len(got)
        return done
    finally:
        os.close(reading)


def kill_once(folder: Path, seed: int, after: int, seconds: float) -> tuple[int, int, str]:
    """One kill and all checks, which raise AssertionError. Returns changes done, files of garbage, and what was cut."""
    url = str(folder)
    Gallery.create(url, GallerySchema(dim=DIM, model_fingerprint="m", image_spec=ImageSpec()))
    (folder / "notes.txt").write_text("not ours")
    changes, states = draw_changes(seed)
    done = run_and_kill(url, changes, after, seconds)
    cut = changes[done].kind if done < len(changes) else "nothing"
    rows = check(folder, states[done : done + 2])
    garbage = len(check_gallery(url, repair=True).removed)
    assert {path.name for path in folder.iterdir()} - BESIDE == {part.file for part in Gallery.open(url).parts}
    check(folder, [rows])
    gallery = Gallery.open(url)
    gallery.compact()
    check(folder, [rows])
    gone = [(name, *row) for state in states[: done + 2] for name, row in state.items() if rows.get(name) != row]
    find_traces(folder, gone, rows)
    change = Change("append", {"after-the-kill": ("person", states[1][next(iter(states[1]))][1])}, ())
    change.on_gallery(gallery)
    check(folder, [change.on_rows(rows)])
    return done, garbage, cut


def check(folder: Path, allowed: list[Rows]) -> Rows:
    """Every byte is as it was written, and the rows are those of one of ``allowed``, in order. Returns which."""
    report = check_gallery(str(folder))
    assert report.ok, report.problems
    gallery = Gallery.open(str(folder))
    vectors = gallery.read_vectors()
    found = {
        name: (subject, vectors[row].tobytes())
        for row, (name, subject) in enumerate(
            zip(gallery.read_ids().to_pylist(), gallery.read_ids(column="subject").to_pylist(), strict=True)
        )
    }
    for rows in allowed:
        if list(found.items()) == list(rows.items()):
            return rows
    raise AssertionError(f"{len(found)} rows, none of {[len(rows) for rows in allowed]} expected")


def find_traces(folder: Path, gone: list[tuple[str, str, bytes]], rows: Rows) -> None:
    """Raises AssertionError where anything of the rows that are ``gone`` is in any file."""
    vectors = {vector for _, vector in rows.values()}
    runs = {run for _, _, vector in gone if vector not in vectors for run in runs_of(vector)}
    subjects = {subject for subject, _ in rows.values()}
    texts = {name for name, _, _ in gone} - rows.keys() | {subject for _, subject, _ in gone} - subjects
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert runs.isdisjoint(runs_of(content)), f"{path.name} holds a piece of a deleted embedding"
        words = set(values_of(path)) if path.suffix == ".parquet" else set()
        for text in texts:
            assert text not in words, f"{path.name} holds {text}"
            assert f'"{text}"'.encode() not in content, f"{path.name} names {text}"
    # Statistics and dictionaries of a Parquet file are its own words too.
    for path in folder.glob("part-*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                known = metadata.row_group(group).column(column).statistics
                assert known is None or {known.min, known.max}.isdisjoint(texts), f"{path.name}: statistics"


def runs_of(content: bytes, length: int = 16) -> Iterator[bytes]:
    return (content[at : at + length] for at in range(len(content) - length + 1))


def values_of(path: Path) -> Iterator[str]:
    table = pq.read_table(path, columns=["id", "subject"])
    for column in table.columns:
        yield from column.to_pylist()


def time_of_all(folder: Path, seed: int) -> float:
    """Seconds that the changes of ``seed`` take where nobody kills."""
    gallery = Gallery.create(str(folder), GallerySchema(dim=DIM, model_fingerprint="m", image_spec=ImageSpec()))
    changes, _ = draw_changes(seed)
    began = time.perf_counter()
    for change in changes:
        change.on_gallery(gallery)
    return time.perf_counter() - began


def kill_often(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Raises AssertionError, with the folder left behind, at the first promise that does not hold."""
    # Of one change, and a little more: an instant in its middle or shortly after it.
    span = 1.2 * min(time_of_all(folder / f"whole-{number}", seed + number) for number in range(3)) / CHANGES
    random = np.random.default_rng(seed)
    cuts: Counter[str] = Counter()
    done, dirty = 0, 0
    for number in range(kills):
        place = folder / f"kill-{number}"
        after, seconds = int(random.integers(CHANGES)), float(random.uniform(0, span))
        finished, garbage, cut = kill_once(place, seed + number, after, seconds)
        cuts[cut] += 1
        done += finished
        dirty += garbage > 0
        shutil.rmtree(place)
    return {"kills": kills, "changes_done": done, "killed_during": dict(cuts), "kills_that_left_garbage": dirty}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gallery-kill-"))
    report = kill_often(folder, arguments.kills, arguments.seed)
    shutil.rmtree(folder)
    print(json.dumps(report, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
