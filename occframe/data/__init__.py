"""What every data set shares: decoding, quarantine, splits, Parquet files of faces, and the loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from occframe.lazy_names import lazy_names

if TYPE_CHECKING:
    from occframe.data.decoding import BadImage, decode
    from occframe.data.fitting import fit
    from occframe.data.loader import FaceLoader, load_faces
    from occframe.data.parquet_faces import ParquetFaces
    from occframe.data.parquet_writer import FaceParquetWriter
    from occframe.data.quarantine import Quarantine
    from occframe.data.splits import SplitPart, apply_split, split_rows
    from occframe.data.subset import Subset

_HOMES = {
    "decoding": "BadImage decode",
    "fitting": "fit",
    "loader": "FaceLoader load_faces",
    "parquet_faces": "ParquetFaces",
    "parquet_writer": "FaceParquetWriter",
    "quarantine": "Quarantine",
    "splits": "SplitPart apply_split split_rows",
    "subset": "Subset",
}
_HOME_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BadImage",
    "FaceLoader",
    "FaceParquetWriter",
    "ParquetFaces",
    "Quarantine",
    "SplitPart",
    "Subset",
    "apply_split",
    "decode",
    "fit",
    "load_faces",
    "split_rows",
]


# Declaring splits must not import OpenCV.
__getattr__ = lazy_names(__name__, _HOME_OF)
