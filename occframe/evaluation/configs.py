"""Options of the bundled protocols. Imports no NumPy: validation and listing stay light."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from occframe.component import Config, FileRef

Rate = Annotated[float, Field(gt=0, lt=1)]
Rank = Annotated[int, Field(ge=1)]


class DrawnPairs(Config):
    """Pairs drawn without replacement from all cross pairs; the same ids give the same pairs in every run."""

    genuine: int = Field(3000, ge=1, description="pairs of the same person")
    impostor: int = Field(3000, ge=1, description="pairs of different people")
    folds: int = Field(10, ge=2, description="folds for the accuracy; genuine and impostor pairs are dealt out in turn")
    seed: int = Field(0, ge=0, description="of the draw; part of the protocol, independent of the run's seed")


class VerificationConfig(Config):
    pairs: FileRef | None = Field(
        None,
        description="URL of a pair file: LFW's `pairs.txt`, or CSV with a header `id_a,id_b,same[,fold]`. "
        "The first image is looked up in the reference, the second among the probes. "
        "Without `pairs` and `draw`, every reference is compared with every probe",
    )
    draw: DrawnPairs | None = Field(None, description="draw pairs instead of reading or crossing them")
    fars: list[Rate] = Field(
        [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        min_length=1,
        description="false accept rates to report the true accept rate at; those too deep for the data are left out",
    )
    mistakes: int = Field(8, ge=0, le=1000, description="worst false rejects, and worst false accepts, to keep")

    @model_validator(mode="after")
    def _one_source(self) -> VerificationConfig:
        if self.pairs is not None and self.draw is not None:
            raise PydanticCustomError("pair_source", "give `pairs` (a file) or `draw`, not both")
        return self


class IdentificationConfig(Config):
    ranks: list[Rank] = Field([1, 5], min_length=1, description="ranks k to report the rank-k rate at")
    max_rank: int = Field(20, ge=1, description="how far the CMC curve goes")
    mistakes: int = Field(8, ge=0, le=1000, description="wrong first hits to keep, the most confident first")
