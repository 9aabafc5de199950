"""Two real Ray actors give what one process gives, bit for bit: also where one is killed, or the run stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from occframe.cli import cli
from occframe.component import BackboneBlock, BuildContext, EngineBlock, MatcherBlock
from occframe.errors import Interrupted, OccframeError
from occframe.gallery import Gallery, GallerySchema, GalleryWriter, read_hits
from occframe.gallery.sharding import ShardedIndex, ShardedMatcher
from occframe.models import save_model
from occframe.plugins import PluginRegistry
from occframe.step import Artefact
from occframe.steps.embed import EmbedConfig, EmbedStep
from occframe.types import Engine, ImageSpec
from tests.fakes import FakeStepContext, stop_after
from tests.tiny import TinyFaces

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

ROOT = Path(__file__).parents[2]
#: Found by workers too, as a file.
REGISTRY = PluginRegistry.discover(inline=[ROOT / "tests" / "tiny.py"])
BUILD = BuildContext(REGISTRY)
OPTIONS = {
    "data": "faces",
    "model": "model",
    "occlusion": {"use": "rectangles", "coverage": [0.2, 0.5]},
    "batch_size": 8,
    "threads": 1,
}


class MortalFaces(TinyFaces):
    """800 faces, two of them rubbish. Whoever reads ``deadly`` first is killed; ``mark`` tells that it was so."""

    def __init__(self, mark: Path | None = None, *, always: bool = False) -> None:
        super().__init__(40, 20)
        self.mark, self.always = mark, always

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        if self.mark is not None and 400 in rows and (self.always or not self.mark.exists()):
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return [b"rubbish" if row in (3, 170) else np.array(self.images[row]) for row in rows]


class Mortal:
    """A worker's work: gives back what it is given. It is killed at the first item, ``mark`` tells that it was so."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self) -> Any:
        return self.echo

    def echo(self, item: Any) -> Any:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item


class Telling:
    """Makes what ``make`` does, and writes down in which process."""

    def __init__(self, make: Callable[[], Any], told: Path) -> None:
        self.make, self.told = make, told

    def __call__(self) -> Any:
        self.told.write_text(str(os.getpid()))
        return self.make()


def engine_of(**options: Any) -> Engine:
    block = EngineBlock.model_validate({"use": "ray", **options}, context={"registry": REGISTRY})
    engine: Engine = BUILD.build(block)
    return engine


@pytest.fixture(scope="module")
def ray() -> Iterator[Engine]:
    engine = engine_of(actors=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    url = str(tmp_path_factory.mktemp("model"))
    block = BackboneBlock.model_validate("tiny", context={"registry": REGISTRY})
    return Artefact("model", "model", url, save_model(url, BUILD.build(block), block))


def embedding(url: Path, model: Artefact, faces: TinyFaces, **known: Any) -> FakeStepContext:
    return FakeStepContext(
        url,
        OPTIONS,
        EmbedConfig,
        datasets={"faces": faces},
        artefacts={"model": model},
        registry=REGISTRY,
        **known,
    )


def embed(url: Path, model: Artefact, faces: TinyFaces, **known: Any) -> FakeStepContext:
    context = embedding(url, model, faces, **known)
    EmbedStep().run(context)
    return context


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Artefact) -> Path:
    """What one process makes of the faces."""
    url = tmp_path_factory.mktemp("whole")
    embed(url, model, MortalFaces())
    return url


def assert_same(left: Path, right: Path) -> None:
    one, other = (Gallery.open(str(url)) for url in (left, right))
    assert one.read_ids().to_pylist() == other.read_ids().to_pylist()
    assert one.read_ids(column="subject").to_pylist() == other.read_ids(column="subject").to_pylist()
    assert np.array_equal(one.read_vectors().view(np.uint16), other.read_vectors().view(np.uint16))
    assert (left / "quarantine.jsonl").read_text() == (right / "quarantine.jsonl").read_text()


def test_a_worker_killed_in_the_middle_changes_nothing(tmp_path, ray, model, whole, capfd):
    mark = tmp_path / "killed"
    context = embed(tmp_path / "gallery", model, MortalFaces(mark), engine=ray)
    assert int(mark.read_text()) != os.getpid()
    assert Gallery.open(str(whole)).count == 798
    assert_same(tmp_path / "gallery", whole)
    assert context.bars[0].done == 798
    assert "workers died and were started again, 1 in all" in context.notes
    printed = capfd.readouterr()
    assert "(raylet)" not in printed.out + printed.err


def test_a_worker_that_dies_before_it_gave_anything_is_counted(tmp_path, ray):
    with ray.start([Mortal(tmp_path / "killed")]) as crew:
        assert list(crew.map([1, 2, 3])) == [1, 2, 3]
        assert crew.notes == ["workers died and were started again, 1 in all"]


def test_a_stopped_run_goes_on(tmp_path, ray, model, whole):
    url = tmp_path / "gallery"
    with pytest.raises(Interrupted):
        embed(url, model, MortalFaces(), engine=ray, stop=stop_after(2))
    kept = Gallery.open(str(url)).count
    assert 0 < kept < 798
    again = embed(url, model, MortalFaces(), engine=ray)
    assert f"{kept} of 800 faces were embedded before; going on" in again.notes
    assert again.bars[0].done == 798 - kept
    ids = Gallery.open(str(url)).read_ids().to_pylist()
    assert ids == Gallery.open(str(whole)).read_ids().to_pylist()


def test_a_worker_that_dies_every_time_ends_the_run(tmp_path, ray, model):
    engine = engine_of(actors=2, restarts=1)
    with pytest.raises(OccframeError, match="a worker died, and after it all 1 in its place"):
        embed(tmp_path / "gallery", model, MortalFaces(tmp_path / "killed", always=True), engine=engine)
    # What came before is there: the run goes on behind it.
    assert Gallery.open(str(tmp_path / "gallery")).count < 400


PIPELINE = """
run_dir: {run_dir}
device: cpu
plugins: [{root}/tests/tiny.py]
engine: {engine}
data: {{faces: {{use: synthetic, identities: 30, images: 12, size: 32}}}}
steps:
  - {{use: train, data: faces, backbone: tiny, losses: [softmax], epochs: 1, batch_size: 16, precision: fp32}}
  - {{use: embed, name: enrolled, data: faces, model: train, batch_size: 8}}
  - {{use: index, gallery: enrolled, matcher: {{use: faiss, profile: fp16}}}}
  - {{use: search, index: index, probes: {{all: enrolled}}, k: 7}}
"""


def assert_same_hits(left: Path, right: Path) -> None:
    one, other = (read_hits(Artefact("", "hits", str(url), {"file": "hits-all.parquet"})) for url in (left, right))
    assert one.probe_ids == other.probe_ids
    assert one.hits.ids.tolist() == other.hits.ids.tolist()
    assert np.array_equal(one.hits.scores.view(np.uint32), other.hits.scores.view(np.uint32))


def run(folder: Path, name: str, engine: str) -> Result:
    file = folder / f"{name}.yaml"
    file.write_text(PIPELINE.format(run_dir=name, root=ROOT, engine=engine))
    return CliRunner().invoke(cli, ["run", str(file)], catch_exceptions=False)


def test_a_pipeline_on_ray_makes_what_it_makes_without(tmp_path, ray, monkeypatch):
    assert ray.workers == 2  # it is connected: the pipeline takes what is there
    monkeypatch.chdir(tmp_path)  # where Ray's processes are not
    assert run(tmp_path, "one", "{}").exit_code == 0
    done = run(tmp_path, "two", "{use: ray, actors: 2}")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "two" / "index" / "shares").iterdir()) == ["0000", "0001"]
    assert_same(tmp_path / "one" / "enrolled", tmp_path / "two" / "enrolled")
    assert_same_hits(tmp_path / "one" / "search", tmp_path / "two" / "search")
    # What was made there is good here.
    assert "shares" in (tmp_path / "two" / "manifest.json").read_text()
    (tmp_path / "two" / "search" / "hits-all.parquet").unlink()
    (tmp_path / "two.yaml").write_text((tmp_path / "two.yaml").read_text().replace("{use: ray, actors: 2}", "{}"))
    again = CliRunner().invoke(cli, ["run", str(tmp_path / "two.yaml"), "--only", "search"])
    assert again.exit_code == 0, again.output
    assert_same_hits(tmp_path / "one" / "search", tmp_path / "two" / "search")


def test_a_worker_killed_while_searching(tmp_path, ray):
    """Its share is loaded again, and asked again."""
    vectors = np.eye(40, dtype=np.float32)
    schema = GallerySchema(dim=40, model_fingerprint="m", image_spec=ImageSpec())
    with GalleryWriter(str(tmp_path / "faces"), schema) as writer:
        writer.write([f"{number:02}" for number in range(40)], ["?"] * 40, vectors)
    block = MatcherBlock.model_validate("torch", context={"registry": REGISTRY})
    gallery = Gallery.open(str(tmp_path / "faces"))
    index = ShardedIndex.of(BUILD, block, str(tmp_path / "index"), gallery.url, gallery.snapshot, [0, 20, 40])
    for number in range(2):
        index.build_share(number)
    told = tmp_path / "process"
    first, second = index.searchers(2)
    with ray.start([Telling(first, told), second]) as crew:
        matcher = ShardedMatcher(crew, 40)
        before = matcher.search(vectors, 3)
        os.kill(int(told.read_text()), signal.SIGKILL)
        after = matcher.search(vectors, 3)
        assert crew.notes == ["workers died and were started again, 1 in all"]
    assert before.ids[:, 0].tolist() == [f"{number:02}" for number in range(40)]
    assert after.ids.tolist() == before.ids.tolist()
    assert np.array_equal(after.scores, before.scores)


def test_without_ray_the_run_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("occframe_ray.engine.find_spec", lambda name: None)
    with pytest.raises(OccframeError, match="the engine `ray` needs Ray, which is not installed") as caught:
        run(tmp_path, "none", "{use: ray}")
    assert caught.value.remedy == "pip install 'occframe[ray]'"
    assert not (tmp_path / "none" / "train").exists()  # not after a day of training


def test_nobody_at_the_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OccframeError, match=r"there is no Ray cluster at `localhost:1`: .*refused"):
        run(tmp_path, "nobody", "{use: ray, address: 'localhost:1'}")
    assert not (tmp_path / "nobody" / "train").exists()


def test_data_that_cannot_be_sent(tmp_path, ray, model):
    faces = MortalFaces()
    faces.lock = Lock()
    with pytest.raises(OccframeError, match="what the workers need cannot be sent to them"):
        embed(tmp_path / "gallery", model, faces, engine=ray)


def test_more_actors_than_there_is_room_for(ray):
    with pytest.raises(OccframeError, match="too few for 100 actors of 1 CPUs and 0 GPUs"):
        engine_of(actors=100).workers  # noqa: B018
    with pytest.raises(OccframeError, match=r"too few for 1 actors of 1 CPUs and 0\.5 GPUs"):
        engine_of(gpus_per_actor=0.5).workers  # noqa: B018
