"""``occframe data prepare``: what it writes, and the record of what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from occframe.data import BadImage, FaceParquetWriter, Quarantine, decode
from occframe.data.alignment import encoder
from occframe.errors import OccframeError
from occframe.evaluation.insightface_bin import read_bin
from occframe.preparation import celeba, lfw, pair_sets
from occframe.preparation.faces import FaceMaker, Picture
from occframe.preparation.sources import SourceFile, check_files, find_files
from occframe.storage import join, make_dirs, write_bytes, write_json
from occframe.types import Aligner, Detector

if TYPE_CHECKING:
    from occframe_registry import ProtocolEntry

FORMAT = 1


class Progress(Protocol):
    def __call__(self, description: str, total: int, unit: str) -> AbstractContextManager[Any]:
        """A bar with ``advance(amount)``."""


@dataclass(frozen=True)
class Prepared:
    """faces: URL of the Parquet file. pairs: of the pair file, None where the set has none. lost: pictures left out, by
    reason. unverified: files whose hash nobody vouches for. unlike: in what it is not the set that is known."""

    faces: str
    pairs: str | None
    count: int
    people: int
    lost: Mapping[str, int]
    unverified: list[str]
    unlike: list[str]


def prepare(
    entry: ProtocolEntry,
    source: Path,
    target: str,
    *,
    aligner: Aligner,
    detector: Callable[[], Detector],
    any_version: bool,
    progress: Progress,
) -> Prepared:
    """Check the files, write ``faces.parquet``, the pairs, ``lost.jsonl`` and ``protocol.json`` into ``target``.

    detector: built only for a set without landmarks.
    Raises OccframeError: files are missing, others than known, or damaged.
    """
    paths = find_files(entry, source)
    with progress("checking", sum(path.stat().st_size for path in paths.values()) >> 20, "MiB") as bar:
        files = check_files(entry, paths, any_version=any_version, advance=_by_mib(bar.advance))
    make_dirs(target)
    faces = join(target, "faces.parquet")
    pairs: tuple[str, bytes] | None = None
    counted = _Counted()
    encode = encoder("jpeg", 95)
    packed = read_bin(str(files["pairs"].path)) if entry.builder == "insightface-bin" else None
    total = len(packed.pictures) if packed else entry.pictures
    with progress("copying" if packed else "aligning", total, "faces") as bar:
        if entry.builder == "lfw":
            maker = FaceMaker(aligner, encode, detector())
            lost = maker.write(counted(lfw.pictures(files)), faces, extra={}, advance=bar.advance)
            pairs = ("pairs.txt", files["pairs"].path.read_bytes())
        elif packed is None:
            maker = FaceMaker(aligner, encode)
            extra = celeba.extra_columns(files)
            lost = maker.write(counted(celeba.pictures(files)), faces, extra=extra, advance=bar.advance)
        else:
            lost = _copy(counted(pair_sets.pictures(packed)), faces, bar.advance)
            pairs = ("pairs.csv", pair_sets.pair_list(packed).encode())
    if len(lost) == counted.pictures:
        raise OccframeError(f"no picture of {source} gave a face: {lost.summary()}", remedy="fetch the files again")
    if pairs is not None:
        write_bytes(join(target, pairs[0]), pairs[1])
    lost.write(join(target, "lost.jsonl"))
    write_json(join(target, "protocol.json"), _record(entry, files, counted, lost))
    return Prepared(
        faces,
        join(target, pairs[0]) if pairs else None,
        counted.pictures - len(lost),
        len(counted.people),
        lost.reasons,
        [file.name for file in files.values() if not file.verified],
        _unlike(entry, counted, len(packed.first) if packed else None),
    )


def _copy(pictures: Iterable[Picture], url: str, advance: Callable[[int], None]) -> Quarantine:
    """Pictures that decode, with the bytes they have."""
    lost = Quarantine(share=1.0)
    with FaceParquetWriter(url, aligned=True) as writer:
        for picture in pictures:
            try:
                decode(picture.encoded)
            except BadImage as error:
                lost.add(picture.id, error)
            else:
                writer.add(picture.id, picture.identity, picture.encoded)
            advance(1)
    return lost


class _Counted:
    """Counts pictures and people on their way."""

    def __init__(self) -> None:
        self.pictures = 0
        self.people: set[str] = set()

    def __call__(self, pictures: Iterable[Picture]) -> Iterable[Picture]:
        for picture in pictures:
            self.pictures += 1
            self.people.add(picture.identity)
            yield picture


def _unlike(entry: ProtocolEntry, counted: _Counted, pairs: int | None) -> list[str]:
    """pairs: of a file that says of its pictures only which of them show one person."""
    counts = [(pairs, entry.pairs, "pairs")]
    if pairs is None:
        counts = [(counted.pictures, entry.pictures, "pictures"), (len(counted.people), entry.people, "people")]
    return [f"{found:,} {what} instead of {known:,}" for found, known, what in counts if known and found != known]


def _by_mib(advance: Callable[[int], None]) -> Callable[[int], None]:
    read = 0

    def more(count: int) -> None:
        nonlocal read
        before, read = read >> 20, read + count
        advance((read >> 20) - before)

    return more


def _record(
    entry: ProtocolEntry, files: Mapping[str, SourceFile], counted: _Counted, lost: Quarantine
) -> dict[str, Any]:
    from occframe import __version__

    return {
        "format": FORMAT,
        "protocol": entry.name,
        "summary": entry.summary,
        "origin": entry.origin,
        "licence": entry.licence,
        "terms": entry.terms,
        "files": [{key: value for key, value in asdict(file).items() if key != "path"} for file in files.values()],
        "pictures": counted.pictures,
        "people": len(counted.people),
        "lost": dict(lost.reasons),
        "occframe": __version__,
    }
