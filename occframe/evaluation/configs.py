"""Options of the bundled protocols. Imports no NumPy: validation and listing stay light."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from occframe.component import Config, FileRef

Rate = Annotated[float, Field(gt=0, lt=1)]
Rank = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]


class DrawnPairs(Config):
    """Pairs drawn without replacement from all cross pairs; the same ids give the same pairs in every run."""

    genuine: int = Field(3000, ge=1, description="pairs of the same person")
    impostor: int = Field(3000, ge=1, description="pairs of different people")
    folds: int = Field(10, ge=2, description="folds for the accuracy; genuine and impostor pairs are dealt out in turn")
    seed: int = Field(0, ge=0, description="of the draw; part of the protocol, independent of the run's seed")


class ProtocolConfig(Config):
    """What the bundled protocols share."""

    mistakes: int = Field(8, ge=0, le=1000, description="worst mistakes of each kind to keep")
    rounds: int = Field(
        500, ge=0, le=10_000, description="of the bootstrap over people that gives confidence intervals; 0 gives none"
    )
    seed: int = Field(0, ge=0, description="of the bootstrap; systems are compared with the same one")
    by: dict[str, list[float]] = Field(
        {},
        description="figures of parts, at the thresholds of all: an attribute of the data set, or hidden_face, "
        "hidden_eyes, hidden_nose, hidden_mouth, with the edges of bins (hidden_eyes: [0, 0.25, 0.5, 1]) or by value "
        "(eyeglasses: [])",
    )

    @field_validator("by")
    @classmethod
    def _edges_ascend(cls, by: dict[str, list[float]]) -> dict[str, list[float]]:
        for column, edges in by.items():
            if len(edges) == 1 or any(high <= low for low, high in pairwise(edges)):
                raise ValueError(f"the edges of `{column}` must ascend, and be two or more, or none to go by value")
        return by


class VerificationConfig(ProtocolConfig):
    pairs: FileRef | None = Field(
        None,
        description="URL of a pair file: LFW's `pairs.txt`, CSV or Parquet with columns `id_a,id_b,same[,fold]`, or "
        "InsightFace's `.bin`. The first image is looked up in the reference, the second among the probes. "
        "Without `pairs` and `draw`, every reference is compared with every probe",
    )
    draw: DrawnPairs | None = Field(None, description="draw pairs instead of reading or crossing them")
    fars: list[Rate] = Field(
        [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        min_length=1,
        description="false accept rates to report the true accept rate at; those too deep for the data are left out",
    )

    @model_validator(mode="after")
    def _one_source(self) -> VerificationConfig:
        if self.pairs is not None and self.draw is not None:
            raise PydanticCustomError("pair_source", "give `pairs` (a file) or `draw`, not both")
        return self


class IdentificationConfig(ProtocolConfig):
    ranks: list[Rank] = Field([1, 5], min_length=1, description="ranks k to report the rank-k rate at")
    max_rank: int = Field(20, ge=1, description="how far the CMC curve goes")
    distractors: list[Count] | None = Field(
        None,
        min_length=1,
        description="MegaFace's way: each mate of a probe alone among so many pictures of people whom no probe shows, "
        "which are the references without probes, such as the `distractors` of the evaluate step",
    )


class OpenSetConfig(ProtocolConfig):
    fpirs: list[Rate] = Field(
        [1e-1, 1e-2, 1e-3],
        min_length=1,
        description="false positive identification rates to report the detection and identification rate at; those too "
        "deep for the data are left out",
    )
    rank: int = Field(1, ge=1, description="a known person counts as found among this many best references")
    enrolled: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        0.5,
        description="share of the people that are enrolled, drawn by `split_seed`; the others' references are taken "
        "away and their probes are strangers. null: strangers are probes whose person has no reference as it is",
    )
    split_seed: int = Field(0, ge=0, description="of the draw of enrolled people; part of the protocol")
