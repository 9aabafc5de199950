"""The faces of the glasses study, cut out of ``celeba112_colour.parquet`` so that nobody is in two parts.

    python -m benchmarks.glasses_data --shared ../shared --into runs/glasses-study/data

- ``real-worn.parquet``, ``real-bare.parquet``: everyone who is there both with and without glasses, for the test on
  real ones
- ``bare-test.parquet``: faces without glasses of other people, by a hash of their identity, for the paired test
- ``bare-train.parquet``, ``worn-train.parquet``: faces without and with glasses of all the rest, to learn from;
  ``train.parquet``: both, for the glasses recogniser
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEST_SHARE = 0.15


def is_test(identity: str) -> bool:
    """By a hash of the identity alone: the same people whatever else the file holds."""
    digest = hashlib.blake2b(f"glasses/{identity}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < TEST_SHARE


def parts(identities: list[str], worn: list[bool]) -> dict[str, list[int]]:
    """Rows by part. identities, worn: of each row. Faces with glasses of test people are in no part."""
    seen: dict[str, set[bool]] = defaultdict(set)
    for identity, glasses in zip(identities, worn, strict=True):
        seen[identity].add(glasses)
    names = ("real-worn", "real-bare", "bare-test", "bare-train", "worn-train", "train")
    rows: dict[str, list[int]] = {name: [] for name in names}
    for row, (identity, glasses) in enumerate(zip(identities, worn, strict=True)):
        if len(seen[identity]) == 2:
            rows["real-worn" if glasses else "real-bare"].append(row)
        elif is_test(identity):
            if not glasses:
                rows["bare-test"].append(row)
        else:
            rows["worn-train" if glasses else "bare-train"].append(row)
            rows["train"].append(row)
    return rows


def cut_out(shared: Path, into: Path) -> dict[str, int]:
    """Write the files, unless they are there. Returns how many faces each holds."""
    source = pq.ParquetFile(shared / "data" / "celeba112_colour.parquet")
    names = source.read(columns=["identity", "eyeglasses"])
    chosen = parts(names["identity"].to_pylist(), names["eyeglasses"].to_pylist())
    into.mkdir(parents=True, exist_ok=True)
    table: pa.Table | None = None
    for name, rows in chosen.items():
        target = into / f"{name}.parquet"
        if not target.exists():
            table = source.read() if table is None else table
            pq.write_table(table.take(rows), target, row_group_size=512)
    return {name: len(rows) for name, rows in chosen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--into", type=Path, default=Path("runs/glasses-study/data"))
    arguments = parser.parse_args()
    for name, count in cut_out(arguments.shared, arguments.into).items():
        print(f"{name}: {count:,} faces")


if __name__ == "__main__":
    main()
