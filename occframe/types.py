"""The data that flows between components, and the protocols a component of each kind fulfils.

Nothing here imports torch: annotations are strings, so that configuration and plugin listing stay light.
Shapes use B images, C channels, H x W pixels, D embedding dimensions, N rows, Q queries, k results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from occframe.step import StepContext, StepOutcome


@dataclass(frozen=True)
class ImageSpec:
    """What a model was trained to see. Checked wherever images meet a model: RGB/BGR confusion is silent otherwise.

    A model input is ``(x / 255 - mean) / std`` with ``x`` in 0..255 and channels in ``colour`` order.
    """

    height: int = 112
    width: int = 112
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class FeatureInfo:
    """One of the feature maps a backbone gives, as timm's ``feature_info``: ``[B, channels, H/stride, W/stride]``."""

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class FaceBatch:
    """A batch of aligned faces.

    images: Tensor [B, 3, H, W], RGB; uint8 0..255 as loaders give it, or float 0..1.
    index: Tensor [B] int64, the row of each image in its data set.
    identities: Tensor [B] int64, class labels 0..num_identities-1 in training, else None.
    landmarks: Tensor [B, 5, 2] float32, (x, y) pixels: left eye, right eye, nose, left and right mouth corner
        as seen in the picture; None where the data set has none.
    mask: Tensor [B, 1, H, W] float32, occlusion alpha 0..1, or None where nothing was occluded on purpose.
    clean: Tensor like ``images`` before occlusion, where a step keeps it, else None.
    teacher: Tensor [B, D] float32, L2-normalised: a frozen recogniser's embedding of ``clean``, where a step has one.
    """

    images: Tensor
    index: Tensor
    identities: Tensor | None = None
    landmarks: Tensor | None = None
    mask: Tensor | None = None
    clean: Tensor | None = None
    teacher: Tensor | None = None


@dataclass(frozen=True)
class Occluded:
    """What an occlusion generator returns.

    images: Tensor [B, 3, H, W], dtype, device and value range of the input.
    mask: Tensor [B, 1, H, W] float32, alpha 0..1; a pixel with alpha 0 is bit-identical to the input.
    parts: named alpha masks of the same shape (for glasses: ``frame``, ``lens``, ``shadow``), where they exist.
    """

    images: Tensor
    mask: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneOutput:
    """embedding: Tensor [B, D] float, not normalised. features: maps as ``feature_info`` declares. extras: by name."""

    embedding: Tensor
    features: Sequence[Tensor] = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneratorOutput:
    """images: Tensor [B, 3, H, W] float32, -1..1. alpha: Tensor [B, 1, H, W] float32, 0..1, how much of each pixel is
    new: where it is 0, ``images`` is the input; None where the generator draws every pixel anew."""

    images: Tensor
    alpha: Tensor | None = None


@dataclass(frozen=True)
class EmbeddingTable:
    """ids: N unique strings. subjects: N identity labels. vectors: array [N, D] float32, L2-normalised.

    columns: what else is known of each face, arrays of length N by name; those that a protocol asks for.
    """

    ids: Sequence[str]
    subjects: Sequence[str]
    vectors: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Hits:
    """Search results for Q queries.

    scores: array [Q, k] float32, cosine, descending; -inf where fewer than k exist.
    ids: array [Q, k] of str (object dtype); "" where fewer than k exist. Equal scores are ordered by id.
    """

    scores: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class DetectedFace:
    """box: (x, y, width, height) pixels. landmarks: array [5, 2] float32 pixels. score: 0..1."""

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float


@dataclass(frozen=True)
class AlignedFace:
    """image: array [H, W, 3] uint8 RGB. landmarks: array [5, 2] float32, pixels of the aligned image.

    transform: array [2, 3] float64, source pixel -> aligned pixel.
    """

    image: np.ndarray
    landmarks: np.ndarray
    transform: np.ndarray


@dataclass(frozen=True)
class Curve:
    """A line of a chart. x, y: arrays of equal length. supported: from which x on, and up to which, the data is enough
    to say anything; None where it always is. Outside, a chart shades the curve or leaves it out."""

    name: str
    x: np.ndarray
    y: np.ndarray
    supported: tuple[float, float] | None = None


@dataclass(frozen=True)
class Histogram:
    """edges: array [B + 1], ascending; a bin holds its left edge, the last one both. counts: int64 [B] by series."""

    edges: np.ndarray
    counts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A confidence interval: how a figure would vary with other people. low, high: of ``level``, 0..1.

    rounds: array [n] float32, the figure in every bootstrap round, NaN where it is undefined. Round i draws the same
    people for every system and condition on the same data, so that differences are paired; ``drawn`` tells whether two
    intervals are of the same draws.
    """

    low: float
    high: float
    rounds: np.ndarray
    level: float = 0.95
    drawn: str = ""


@dataclass(frozen=True)
class Group:
    """Figures of a part of the trials: those whose faces agree in ``column``, at the thresholds of all trials.

    label: "glasses" or "0.1..0.2". low, high: of a numeric bin, else None. counts: of the trials in the group.
    """

    column: str
    label: str
    metrics: Mapping[str, float]
    counts: Mapping[str, int]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Trials:
    """What became of every trial, for tests between two systems on the same trials.

    digest: of the trials' ids, in order: two systems with equal digests were asked the same. correct: bool [T].
    scores: float32 [T]. rule: what "correct" means, for a reader.
    """

    digest: str
    correct: np.ndarray
    scores: np.ndarray
    rule: str


@dataclass(frozen=True)
class Mistake:
    """One error worth looking at. kind: "false reject" (a genuine pair scored low) or "false accept"."""

    kind: Literal["false reject", "false accept"]
    reference_id: str
    probe_id: str
    score: float


@dataclass(frozen=True)
class ProtocolResult:
    """metrics: headline figures by name, fractions 0..1 unless the name carries a unit. notes: what a reader must know.

    curves: by chart name ("ROC", "CMC", "DIR-FPIR"), each one curve. mistakes: worst first. counts: pairs, probes,
    folds …. intervals: of the metrics of these names. histograms: by name ("scores"). groups: by attribute or by how
    much is hidden. trials: None where they are too many to keep.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    groups: Sequence[Group] = ()
    trials: Trials | None = None


# --- what a component of each kind is ---------------------------------------------------------------------------------


@runtime_checkable
class Dataset(Protocol):
    """Faces with identities. Row numbers are positions in ``ids``; nothing is decoded until ``read``.

    landmarks: array [N, 5, 2] float32 pixels, NaN rows where unknown; None where the set has none.
    attributes: further columns by name, arrays of length N.
    blocks: row ranges that are cheap to read together (Parquet row groups); one range where there is no difference.
    aligned: True if every image is already a face crop aligned to the ArcFace template.

    It may offer ``cached_blocks``, how many blocks it can serve in any order without reading one twice (a shuffle mixes
    half as many), and ``notes``, lines about what it left out, which the step that uses it passes on.
    """

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def subjects(self) -> Sequence[str]: ...
    @property
    def landmarks(self) -> np.ndarray | None: ...
    @property
    def attributes(self) -> Mapping[str, np.ndarray]: ...
    @property
    def blocks(self) -> Sequence[range]: ...
    @property
    def aligned(self) -> bool: ...

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        """Encoded picture bytes, or decoded arrays [H, W, 3] uint8 RGB, in the order of ``rows``. Thread-safe."""

    def fingerprint(self) -> str:
        """A short text that changes when ids, identities or pictures change; cheap enough to ask before every run."""


class OcclusionGenerator(Protocol):
    """Occludes batches. ``sample`` draws, ``apply`` is pure: the split gives replay, and batching on any device.
    Trainings draw on the CPU, in the loader's threads, and apply where the pictures are; what was drawn is taken there.

    It may offer ``apply_(images, params)``, the same in place for uint8 images on the CPU, where that is faster;
    ``parts``, names that ``Occluded.parts`` may have; ``version``, of its pictures; and ``recipe``, its options as
    plain data, where these name files: what was taken from them in place of where they lie; and ``compile()``, after
    which ``apply`` runs as fused kernels, with the same result to a rounding: for training on a GPU.
    """

    def sample(self, batch: FaceBatch, seeds: Tensor) -> Any:
        """Draw parameters, one seed (int64) an image; image i depends on seeds[i] and its own content only.

        Returns a plain structure (dataclass or dict of tensors, numbers and strings) whose first axis is the image.
        """

    def apply(self, images: Tensor, params: Any) -> Occluded:
        """images: Tensor [B, 3, H, W], uint8 0..255 or float 0..1, RGB; left unchanged."""


class Backbone(Protocol):
    """A ``torch.nn.Module``, images -> BackboneOutput.

    image_spec: what it must be fed. embedding_dim: D. feature_info: of the maps in ``BackboneOutput.features``.
    With capability ``split`` also ``forward_features(x) -> list of maps`` (deepest last) and
    ``forward_head(map) -> Tensor [B, D]``. With capability ``mask_output`` its extras hold ``mask``.

    It may offer ``embed_form()`` and ``explain_form()``: copies of it for inference, which give the same embedding
    faster, the first without what only training or explaining needs; ``columns``, names of figures with their types
    ("int64", "float64" or "list<float>"), and ``describe(output) -> Mapping[str, Tensor [B] or [B, n]]``, what it says
    of each image by these names, which the ``embed`` step can store; and ``begin_state_dict(state)``: the weights with
    which to begin a training, given those of an earlier model of another make-up.
    """

    image_spec: ImageSpec
    embedding_dim: int
    feature_info: Sequence[FeatureInfo]

    def __call__(self, images: Tensor) -> BackboneOutput: ...


class LossTerm(Protocol):
    """A ``torch.nn.Module`` that may own parameters (class centres), (output, batch) -> scalar Tensor.

    needs: what must be there besides the embedding: any of "identities", "landmarks", "mask", "clean", "teacher", or a
    key of ``BackboneOutput.extras`` written "extras.<key>". Checked before the first step.

    It may offer ``figures: Sequence[str]`` and ``measure(output, batch) -> Mapping[str, Tensor]``, finite scalars by
    these names: what is to be logged beside the loss, such as an accuracy. No gradient flows there.

    A term with tables too large for an optimiser, class centres of millions, may offer ``descend(rate, scale)``, called
    after each backward pass; ``shards``, name -> (first row, rows in all processes together, the rows of this one); and
    ``load_shards(read)`` with ``read(name, first row, stop) -> rows``, to go on from a checkpoint.
    """

    needs: frozenset[str]

    def __call__(self, output: BackboneOutput, batch: FaceBatch) -> Tensor: ...


class Generator(Protocol):
    """A ``torch.nn.Module``, images -> GeneratorOutput: faces as they would look without something, or otherwise.

    It is given and gives images [B, 3, H, W] of any H x W from 8 x 8 on, -1..1, in the colour order of ``image_spec``;
    in evaluation mode the result for one image does not depend on the others of its batch.

    image_spec: the size it is trained at, colour order, mean and std 0.5. It may offer ``generate_form()``: a copy for
    inference that gives the same faster.
    """

    image_spec: ImageSpec

    def __call__(self, images: Tensor) -> GeneratorOutput: ...

    def discriminator(self) -> Any:
        """A new ``nn.Module`` that this generator is trained against: images [B, 3, H, W], -1..1 -> scores of any
        shape [B, ...], large for a real image, not squashed to 0..1."""


class Matcher(Protocol):
    """Searches by cosine. Ids are the caller's strings; vectors are arrays [N, D] float32 or float16, normalised.

    One that approximates offers ``declared_recall``: the share of the nearest, 0..1, that it finds at least.
    """

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None: ...
    def remove(self, ids: Sequence[str]) -> None: ...
    def search(self, queries: np.ndarray, k: int) -> Hits: ...
    def save(self, url: str) -> None: ...
    def load(self, url: str) -> None: ...
    def __len__(self) -> int: ...


class Detector(Protocol):
    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """image: array [H, W, 3] uint8 RGB. Faces, best first."""


class Aligner(Protocol):
    def align(self, image: np.ndarray, landmarks: np.ndarray) -> AlignedFace:
        """image: array [H, W, 3] uint8 RGB; landmarks: array [5, 2] pixels."""


class EvaluationProtocol(Protocol):
    """Turns embeddings into figures. ``reference`` is enrolled, ``probe`` is compared with it.

    It may offer ``columns``, names of what it wants to know of each face: attributes of the data set, or
    ``hidden_face``, ``hidden_eyes``, ``hidden_nose``, ``hidden_mouth``, the share (0..1) that an occlusion hides. Both
    tables then have them in ``EmbeddingTable.columns``. With ``uses_distractors`` set, ``reference`` has those of the
    evaluate step too.
    """

    def evaluate(self, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
        """hits: of ``probe``'s rows searched in ``reference``, where a search step ran; the same table may stand on
        both sides, then a row is never compared with itself."""


@dataclass(frozen=True)
class RunFacts:
    """A run, for a tracker. url: the run directory. config: the resolved pipeline, plain data as its YAML holds."""

    name: str
    url: str
    seed: int
    config: Mapping[str, Any]


class Tracker(Protocol):
    """Passes the figures of a run on to where people watch them, while it goes on.

    What it raises ends the tracking, not the run. A run that is resumed, or run again in its directory, gets a new
    instance, which goes on with the record of the former where the service allows that.
    """

    def begin(self, run: RunFacts) -> None: ...

    def figures(self, source: str, figures: Mapping[str, float], step: int | None) -> None:
        """source: the name of a pipeline's step. step: of a training, counted from 1; None: results of a finished step.
        A figure may be NaN where it is undefined."""

    def finish(self, status: Literal["done", "failed", "interrupted"]) -> None: ...


class Crew(Protocol):
    """Workers that are ready. What they are given and give back is pickled, between one user's own processes.

    A worker that dies is replaced, and what it was doing is done again; an exception that one raises is raised here.
    It may offer ``notes``, lines about what became of its workers, which the step passes on.
    """

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """What the workers give for ``items``, in the order of these; which worker is given which is the engine's
        choice. An iterator that a worker gives arrives as a list where it has to travel."""

    def ask_all(self, item: Any) -> list[Any]:
        """What each of the workers gives for the same item, in the order in which they were made."""


class Engine(Protocol):
    """Shares out the work of a step. It moves work and results, and knows neither faces nor galleries.

    workers: how many it can keep busy; 0: it does the work in this process. device: the torch device they compute on;
    None: the pipeline's. Nothing is connected to or started before one of these, or ``start``, is asked for.
    """

    @property
    def workers(self) -> int: ...
    @property
    def device(self) -> str | None: ...

    def start(self, makes: Sequence[Callable[[], Callable[[Any], Any]]]) -> AbstractContextManager[Crew]:
        """A worker for each of ``makes``, which is called once there, and again where the worker is replaced: it loads
        what the work needs and gives the function that does it. Relative paths mean there what they mean here, where
        there is such a directory. The workers end with the context."""

    def close(self) -> None:
        """The run is over."""


class PipelineStep(Protocol):
    def run(self, context: StepContext) -> StepOutcome: ...
