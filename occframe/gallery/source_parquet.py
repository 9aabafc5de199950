from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from occframe.errors import OccframeError, first_line
from occframe.gallery.importing import BATCH, SourceColumns, SourceRows
from occframe.gallery.layout import schema_of, vectors_of
from occframe.gallery.manifest import GallerySchema
from occframe.gallery.parts import check_sizes
from occframe.gallery.source_columns import as_text, cast, of_types
from occframe.storage import filesystem
from occframe.types import ImageSpec


def find_parquet(url: str) -> list[str]:
    """The file, or the Parquet files of a folder by name; none where there is neither."""
    fs, path = filesystem(url)
    if fs.isdir(path):
        found = sorted(name for name in fs.ls(path, detail=False) if name.endswith(".parquet"))
        return [fs.unstrip_protocol(name) for name in found]
    return [url] if url.lower().endswith((".parquet", ".pq")) else []


class ParquetSource:
    """Embeddings as list, FixedSizeList or, where the file says its dtype, FixedSizeBinary."""

    rows: int | None
    schema: GallerySchema | None

    def __init__(self, url: str, files: Sequence[str], columns: SourceColumns) -> None:
        self.url = url
        self._files, self._names = list(files), columns
        described, rows = [], 0
        for name in self._files:
            with self._opened(name, [columns.embedding, columns.id]) as file:
                rows += file.metadata.num_rows
                described.append((schema_of(file.schema_arrow), self._dim(name, file)))
        self.rows = rows
        self.schema, self.dim = described[0]
        for name, found in zip(self._files, described, strict=True):
            if found != described[0]:
                raise OccframeError(
                    f"{name} differs from {self._files[0]} in model or dimension", remedy="import them one by one"
                )

    def batches(self, columns: Mapping[str, pa.DataType]) -> Iterator[SourceRows]:
        names = self._names
        described = self.schema or GallerySchema(dim=self.dim, model_fingerprint="unknown", image_spec=ImageSpec())
        for name in self._files:
            with self._opened(name, [names.embedding, names.id, *columns]) as file:
                subject = names.subject if names.subject in file.schema_arrow.names else names.id
                wanted = list(dict.fromkeys([names.id, subject, names.embedding, *columns]))
                check_sizes(name, file, wanted)
                for batch in file.iter_batches(BATCH, columns=wanted, use_threads=False):
                    yield SourceRows(
                        as_text(batch.column(names.id), name, names.id),
                        as_text(batch.column(subject), name, subject),
                        of_types(vectors_of(batch.column(names.embedding), described, name)),
                        {column: cast(batch.column(column), kind, name, column) for column, kind in columns.items()},
                    )

    def _dim(self, name: str, file: pq.ParquetFile) -> int:
        column = self._names.embedding
        kind = file.schema_arrow.field(column).type
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        if pa.types.is_fixed_size_binary(kind):
            described = schema_of(file.schema_arrow)
            if described is None:
                raise OccframeError(
                    f"{name}: `{column}` is {kind.byte_width} plain bytes, which may be numbers of any kind",
                    remedy="write it as a list of floats",
                )
            return described.dim
        check_sizes(name, file, [column])
        first = next(file.iter_batches(1, columns=[column], use_threads=False), None)
        value = None if first is None else first.column(0)[0].as_py()
        if not isinstance(value, list) or not value:
            raise OccframeError(
                f"{name}: the column `{column}` is {kind}, and its first row holds no list of numbers",
                remedy="name the column of the embeddings",
            )
        return len(value)

    @contextmanager
    def _opened(self, name: str, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
        fs, path = filesystem(name)
        try:
            with fs.open(path, "rb") as stream:
                file = pq.ParquetFile(stream, pre_buffer=False)
                if absent := [column for column in columns if column not in file.schema_arrow.names]:
                    raise OccframeError(
                        f"{name} has no column {', '.join(absent)}; it has {', '.join(file.schema_arrow.names)}",
                        remedy="say which columns hold id, subject and embedding",
                    )
                yield file
        except (pa.ArrowException, OSError) as error:
            raise OccframeError(f"{name} cannot be read: {first_line(error)}", remedy="is it whole?") from error
