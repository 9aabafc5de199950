"""What embeds faces: made in this process or sent to workers elsewhere, the same code on the same batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from occframe.component import BuildContext, DataRef, OcclusionBlock, Reference, walk
from occframe.errors import OccframeError
from occframe.machine import default_threads, keep_freed_memory
from occframe.step import Artefact, Materials, StepContext

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from occframe.data import BadImage, FaceLoader, Quarantine
    from occframe.models import LoadedModel
    from occframe.steps.embed import EmbedConfig
    from occframe.types import Dataset, FaceBatch


@dataclass(frozen=True)
class Recipe:
    """Makes an embedder where it is needed: data and names, no network, so that it can be sent. Fulfils ``Materials``.

    ``build`` comes first, and with it the registry: classes of inline plugins can be unpickled once that is there.
    """

    build: BuildContext
    config: EmbedConfig
    artefacts: Mapping[str, Artefact]
    faces: Dataset

    def artefact(self, reference: Reference | str) -> Artefact:
        return self.artefacts[reference]

    def on(self, device: str) -> Recipe:
        return replace(self, build=replace(self.build, device=device))

    @property
    def batch_size(self) -> int:
        return self.config.batch_size or (32 if self.build.device.startswith("cpu") else 256)

    def __call__(self) -> Embedder:
        return Embedder(self)


def recipe_of(context: StepContext, faces: Dataset) -> Recipe:
    names = [item for item in walk(context.config) if isinstance(item, Reference) and not isinstance(item, DataRef)]
    artefacts = {str(name): context.artefact(name) for name in names}
    return Recipe(context.build, context.config, artefacts, faces)


@dataclass(frozen=True)
class Embedded:
    """rows: int64 [n], of the data set. vectors: [n, D] float32. said: of each image. unreadable: others, by id."""

    rows: np.ndarray
    vectors: np.ndarray
    said: dict[str, list[Any]]
    unreadable: Mapping[str, BadImage] = field(default_factory=dict)


class Embedder:
    """Model, remover and occlusion, ready. columns: what the model is to say of each face, with types."""

    def __init__(self, recipe: Recipe) -> None:
        from occframe.models import load_model
        from occframe.steps.restore import build_remover
        from occframe.steps.treatment import Treatment

        config, build = recipe.config, recipe.build
        self._recipe = recipe
        self._on_cpu = build.device.startswith("cpu")
        if self._on_cpu:
            keep_freed_memory()
        purpose: Literal["embed", "explain"] = "explain" if config.describe else "embed"
        self.model = model = load_model(recipe.artefact(config.model).url, build, purpose=purpose)
        self.columns = dict(getattr(model.backbone, "columns", {})) if config.describe else {}
        if config.describe and not self.columns:
            raise OccframeError(
                f"`{model.block.use}` says nothing of a face but its embedding",
                remedy="leave `describe` out, or use a backbone such as `from`",
            )
        removal = config.removal
        remover = build_remover(recipe, removal, config.precision, identity=model) if removal else None
        self.treatment = Treatment(recipe.faces, remover)

    def __call__(self, rows: np.ndarray) -> list[Embedded]:
        """What is embedded elsewhere: a chunk at a time, with what could not be read of it."""
        import numpy as np

        from occframe.data import Quarantine

        quarantine = Quarantine(share=1.0)  # how many are too many is asked where all of them are known
        found = list(self.embed(rows, quarantine))
        columns = found[0].said if found else {}
        joined = Embedded(
            np.concatenate([rows[:0], *(batch.rows for batch in found)]),
            np.concatenate([np.empty((0, self.model.embedding_dim), np.float32), *(batch.vectors for batch in found)]),
            {name: [value for batch in found for value in batch.said[name]] for name in columns},
            quarantine.found,
        )
        return [joined]

    def embed(self, rows: np.ndarray, quarantine: Quarantine) -> Iterator[Embedded]:
        """Batch by batch. rows: int64, ascending."""
        from occframe.data import Subset

        config, faces = self._recipe.config, Subset(self._recipe.faces, rows)
        loader = face_loader(
            self._recipe,
            faces,
            self.model.image_spec,
            config.occlusion,
            config.occlusion_seed,
            quarantine,
            batch_size=self._recipe.batch_size,
            threads=config.threads or self._threads(),
            grey=config.grey,
        )
        treated = (self.treatment(batch, faces) for batch in loader.epoch(0))
        for index, vectors, said in _forward(self.model, treated, config):
            yield Embedded(rows[index], vectors, said)

    def _threads(self) -> int:
        if not self._on_cpu:
            return default_threads()
        # On a CPU the network keeps every core busy, and waits at each layer for one that was borrowed. On two cores
        # one thread costs MobileFaceNet 2 % of its rate, two cost 6 %, and one decodes 25 times what it takes.
        return max(1, default_threads() // 4)


def face_loader(
    context: Materials,
    faces: Dataset,
    spec: Any,
    occlusion: OcclusionBlock | None,
    seed: int,
    quarantine: Quarantine,
    *,
    batch_size: int,
    threads: int | None = None,
    keep_clean: bool = False,
    grey: bool = False,
) -> FaceLoader:
    """The pictures as a model is fed them. What covers an image follows from ``seed`` and its id alone, so any part of
    a data set, in any order and batch size, comes out the same: that is what resuming and replaying stand on."""
    from occframe.data import FaceLoader

    return FaceLoader(
        faces,
        height=spec.height,
        width=spec.width,
        batch_size=batch_size,
        threads=threads or default_threads(),
        seed=seed,
        occlusion=context.build.build(occlusion, image_spec=spec, device="cpu", seed=seed) if occlusion else None,
        keep_clean=keep_clean,
        grey=float(grey),
        quarantine=quarantine,
    )


def _forward(
    model: LoadedModel, batches: Iterable[tuple[FaceBatch, dict[str, list[Any]]]], config: EmbedConfig
) -> Iterator[tuple[list[int], np.ndarray, dict[str, list[Any]]]]:
    """Rows, embeddings [B, D] and what is said of each image, one batch late: a GPU works on the next one while this
    one is fetched and written. batches: with what is said of their images already."""
    from occframe.models import embed_and_describe

    def fetched(
        index: Tensor, vectors: Tensor, said: dict[str, Tensor], before: dict[str, list[Any]]
    ) -> tuple[list[int], np.ndarray, dict[str, list[Any]]]:
        columns = {name: values.tolist() for name, values in said.items()}
        return index.tolist(), vectors.cpu().numpy(), columns | before

    waiting = None
    for batch, before in batches:
        vectors, said = embed_and_describe(
            model, batch.images, precision=config.precision, flip=config.flip, describe=config.describe
        )
        if waiting is not None:
            yield fetched(*waiting)
        waiting = (batch.index, vectors, said, before)
    if waiting is not None:
        yield fetched(*waiting)
