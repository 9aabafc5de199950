"""Fixtures for the tests of plugins, there wherever occframe and pytest are. Nothing heavy is imported before use."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from occframe.gallery import Gallery
    from occframe.plugins import PluginRegistry
    from occframe.testing.samples import TinyFaces
    from occframe.types import FaceBatch


@pytest.fixture
def plugin_registry() -> Callable[..., PluginRegistry]:
    """``plugin_registry(module, …, bundled=False)``: a registry of these plugins alone, whatever is installed.

    module: anything with hookimpls. bundled: occframe's own plugins too. One that does not load fails the test.
    """
    from occframe.plugins import PluginRegistry

    def make(*plugins: Any, bundled: bool = False) -> PluginRegistry:
        registry = PluginRegistry.discover(only=["occframe"] if bundled else [], environ={})
        for number, plugin in enumerate(plugins):
            name = getattr(plugin, "__name__", f"plugin-{number}")
            record = registry.register(plugin, name=name, distribution=f"test-{name}")
            if record.status != "loaded":
                pytest.fail(f"{name} did not load: {record.error}\n{record.details or ''}")
        return registry

    return make


@dataclass(frozen=True)
class PipelineOutcome:
    """What ``occframe run`` did. folder: where it ran. manifest: of the run directory, empty where there is none."""

    code: int
    stdout: str
    stderr: str
    folder: Path
    manifest: Mapping[str, Any]

    def assert_ok(self) -> PipelineOutcome:
        assert self.code == 0, f"occframe run exited with {self.code}\n{self.stdout}{self.stderr}"
        return self

    def assert_failed(self, *, saying: str, code: int | None = None) -> PipelineOutcome:
        assert self.code != 0, f"occframe run succeeded\n{self.stdout}"
        assert code in (None, self.code), f"exit code {self.code}, not {code}\n{self.stderr}"
        assert saying in self.stderr, f"{saying!r} is not in:\n{self.stderr}"
        return self

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of all steps, as ``STEP.FIGURE``."""
        steps = self.manifest.get("steps", {})
        return {f"{name}.{key}": value for name, step in steps.items() for key, value in step["metrics"].items()}


@pytest.fixture
def run_pipeline(tmp_path: Path) -> Callable[..., PipelineOutcome]:
    """``run_pipeline(yaml, *arguments, files={name: text})``: write the files, run the YAML in a process of its own.

    yaml: a pipeline's text, indented or not; its ``run_dir`` may be left out. arguments: of ``occframe run``.
    """

    def run(yaml: str, *arguments: str, files: Mapping[str, str] | None = None) -> PipelineOutcome:
        import json

        for name, text in (files or {}).items():
            (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
        text = textwrap.dedent(yaml)
        if "run_dir:" not in text:
            text = f"run_dir: run\n{text}"
        (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "occframe", "run", "pipeline.yaml", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        # A gallery has a file of that name too; a run's has steps.
        manifests = (json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("manifest.json"))
        manifest: dict[str, Any] = next((item for item in manifests if "steps" in item), {})
        return PipelineOutcome(done.returncode, done.stdout, done.stderr, tmp_path, manifest)

    return run


@pytest.fixture
def tiny_faces() -> Callable[..., TinyFaces]:
    """``tiny_faces(identities=4, images=3, height=32, width=32, seed=0)``: a data set of drawn people."""
    from occframe.testing.samples import TinyFaces

    return TinyFaces


@pytest.fixture
def occluded_samples() -> Callable[..., FaceBatch]:
    """``occluded_samples(count=4, dim=8, height=32, width=32, seed=0)``: with ``mask``, ``clean``, ``teacher``."""
    from occframe.testing.samples import occluded_batch

    return occluded_batch


@pytest.fixture
def make_gallery(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Gallery]:
    """``make_gallery(people=5, images=3, dim=16, dtype="float16", seed=0, columns={…})``: embeddings on disk, in which
    the pictures of one person lie near each other. Its ``url`` is where."""
    import numpy as np

    from occframe.gallery import Gallery, GallerySchema, GalleryWriter
    from occframe.testing.samples import unit_vectors
    from occframe.types import ImageSpec

    def make(
        people: int = 5,
        images: int = 3,
        *,
        dim: int = 16,
        dtype: Literal["float16", "float32"] = "float16",
        seed: int = 0,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> Gallery:
        url = str(tmp_path_factory.mktemp("gallery") / "gallery")
        subjects = [f"person-{person}" for person in range(people) for _ in range(images)]
        ids = [f"{subject}/{number % images}" for number, subject in enumerate(subjects)]
        centres = np.repeat(unit_vectors(people, dim, seed=seed), images, axis=0)
        vectors = centres + 0.3 * unit_vectors(len(ids), dim, seed=seed + 1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        kinds = {name: _column_kind(values) for name, values in (columns or {}).items()}
        schema = GallerySchema(
            dim=dim, dtype=dtype, model_fingerprint="of the fixture", image_spec=ImageSpec(), columns=kinds
        )
        with GalleryWriter(url, schema) as writer:
            writer.write(ids, subjects, vectors.astype(dtype), columns or {})
        return Gallery.open(url)

    return make


def _column_kind(values: Sequence[Any]) -> str:
    kind = type(values[0])
    return {bool: "bool", int: "int64", float: "float64"}.get(kind, "string")


@pytest.fixture
def cuda() -> str:
    """The device "cuda"; the test is skipped where there is none."""
    try:
        import torch
    except ImportError:
        pytest.skip("torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda"


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The test fails where it leaves open files, threads, child processes or CUDA memory behind."""
    from occframe.testing.leaks import Resources

    before = Resources.now()
    yield
    if left := Resources.settled(before).beyond(before):
        pytest.fail(f"left behind: {'; '.join(left)}", pytrace=False)
