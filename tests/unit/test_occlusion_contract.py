"""What every registered occlusion generator promises, whichever plugin it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from occframe import FaceBatch, OcclusionBlock
from occframe.errors import ConfigError, OccframeError
from occframe.face_frame import template_landmarks
from occframe.hidden import hidden_fractions
from occframe.occlusion_record import from_plain, to_plain
from occframe.random import uniform
from occframe.standalone import parse_block, standalone_context
from occframe.trees import tensors_in
from occframe_occlusions import suite_configs
from occframe_occlusions.examples import face_sprite_folder

CONTEXT = standalone_context()
NAMES = sorted(component.name for component in CONTEXT.registry.components("occlusion"))
#: Options without which a generator cannot be built.
NEEDED: dict[str, dict[str, Any]] = {
    "choice": {"of": [{"occlusion": "glasses"}, {"occlusion": "erasing", "weight": 2}]},
    "compose": {"layers": [{"occlusion": "rectangles", "probability": 0.7}, {"occlusion": "sunglasses"}]},
}
HEIGHT, WIDTH = 64, 56


@pytest.fixture(scope="session", autouse=True)
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sprites")
    picture = np.zeros((40, 60, 4), np.uint8)
    cv2.circle(picture, (30, 20), 18, (40, 90, 200, 255), -1, cv2.LINE_AA)
    cv2.imwrite(str(folder / "disc.png"), picture)
    cv2.imwrite(str(folder / "plain.png"), np.full((30, 20, 3), 77, np.uint8))
    NEEDED["sprites"] = {"url": str(folder)}
    NEEDED["face-sprites"] = {"url": str(face_sprite_folder(folder.parent))}
    return folder


def build(name: str, **options: Any) -> Any:
    return CONTEXT.build(parse_block(OcclusionBlock, {"use": name} | NEEDED.get(name, {}) | options, CONTEXT))


@cache
def built(name: str) -> Any:
    return build(name, severity=[0.0, 1.0])


def pictures(count: int, seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Something between a wall and a photograph: smooth colours with grain."""
    coarse = uniform(torch.arange(count) + seed, 1, 3 * 36).view(count, 3, 6, 6)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    grain = uniform(torch.arange(count) + seed, 2, 3 * height * width).view(count, 3, height, width) - 0.5
    return ((smooth + grain * 0.1).clamp(0, 1) * 255).to(torch.uint8)


def faces(count: int, seed: int, odd: str = "none", height: int = HEIGHT, width: int = WIDTH) -> FaceBatch:
    jitter = uniform(torch.arange(count) + seed, 3, 10).view(count, 5, 2) - 0.5
    points = template_landmarks(height, width) + jitter * 6
    if odd == "upside down":
        points = torch.tensor([width - 1.0, height - 1.0]) - points
    elif odd == "outside":
        points = points + torch.tensor([3.0 * width, -2.0 * height])
    elif odd == "beyond any image":
        points = points * 1e30
    elif odd == "one place":
        points = torch.full_like(points, 20.0)
    elif odd == "on a line":
        points[:, :, 1] = 30.0
    elif odd == "profile":
        points[:, :, 0] = points[:, :, 0] * 0.12 + 20
    elif odd == "unknown":
        points[: (count + 1) // 2] = float("nan")
        points[-1, 0, 0] = float("inf")
    return FaceBatch(images=pictures(count, seed, height, width), index=torch.arange(count), landmarks=points)


ODD = st.sampled_from(
    ["none", "upside down", "outside", "beyond any image", "one place", "on a line", "profile", "unknown"]
)
SEEDS = st.integers(0, 2**40)


def seeds_of(count: int, seed: int) -> Tensor:
    return torch.arange(count) * 7919 + seed


def part_of(batch: FaceBatch, rows: list[int]) -> FaceBatch:
    assert batch.landmarks is not None
    return replace(batch, images=batch.images[rows], index=batch.index[rows], landmarks=batch.landmarks[rows])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, odd=ODD)
def test_a_changed_pixel_has_alpha_and_all_values_are_sound(name: str, seed: int, odd: str) -> None:
    batch = faces(3, seed % 1000, odd)
    before = batch.images.clone()
    generator = built(name)
    params = generator.sample(batch, seeds_of(3, seed))
    assert all(len(leaf) == 3 for leaf in tensors_in(params))
    occluded = generator.apply(batch.images, params)
    assert torch.equal(batch.images, before), "the input was changed"
    assert occluded.images.shape == before.shape
    assert occluded.images.dtype == torch.uint8
    assert occluded.mask.shape == (3, 1, HEIGHT, WIDTH)
    for mask in (occluded.mask, *occluded.parts.values()):
        assert mask.dtype == torch.float32
        assert torch.isfinite(mask).all()
        assert mask.min() >= 0
        assert mask.max() <= 1
    changed = (occluded.images != before).any(dim=1, keepdim=True)
    assert not (changed & (occluded.mask == 0)).any()

    exact = before.float() / 255
    kept = exact.clone()
    as_float = generator.apply(exact, params)
    assert torch.equal(exact, kept)
    assert torch.isfinite(as_float.images).all()
    assert as_float.images.min() >= 0
    assert as_float.images.max() <= 1
    clear = (as_float.mask == 0).expand_as(exact)
    assert torch.equal(as_float.images[clear], exact[clear])
    assert (as_float.mask - occluded.mask).abs().max() <= 1e-6
    assert (as_float.images * 255 - occluded.images.float()).abs().max() <= 1.0


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, odd=ODD)
def test_neither_company_nor_order_changes_an_image(name: str, seed: int, odd: str) -> None:
    """The very bits, for batches of another size, another order and another memory layout."""
    count, generator = 7, built(name)
    batch, seeds = faces(count, seed % 1000, odd), seeds_of(count, seed)
    whole = generator.apply(batch.images, generator.sample(batch, seeds))
    order = [4, 0, 6, 2, 5, 1, 3]
    mixed = part_of(batch, order)
    mixed = replace(mixed, images=mixed.images.contiguous(memory_format=torch.channels_last))
    shuffled = generator.apply(mixed.images, generator.sample(mixed, seeds[order]))
    assert torch.equal(shuffled.images, whole.images[order])
    assert torch.equal(shuffled.mask, whole.mask[order])
    for row in range(0, count, 3):
        alone = part_of(batch, [row])
        single = generator.apply(alone.images, generator.sample(alone, seeds[[row]]))
        assert torch.equal(single.images[0], whole.images[row])
        assert torch.equal(single.mask[0], whole.mask[row])
        for part, alpha in single.parts.items():
            assert torch.equal(alpha[0], whole.parts[part][row])


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_changes_nothing(name: str) -> None:
    batch = faces(4, 5)
    generator = build(name, severity=0.0)
    occluded = generator.apply(batch.images, generator.sample(batch, seeds_of(4, 1)))
    assert torch.equal(occluded.images, batch.images)
    assert not occluded.mask.any()


@pytest.mark.parametrize("name", NAMES)
def test_more_severe_hides_more(name: str) -> None:
    count = 24
    batch = faces(count, 11)
    hidden = []
    for severity in (0.2, 0.9):
        generator = build(name, severity=severity)
        hidden.append(generator.apply(batch.images, generator.sample(batch, seeds_of(count, 3))).mask.mean().item())
    assert hidden[1] > hidden[0] > 0


@pytest.mark.parametrize("name", NAMES)
def test_parameters_replay(name: str) -> None:
    batch, generator = faces(3, 2), built(name)
    params = generator.sample(batch, seeds_of(3, 9))
    again = generator.sample(batch, seeds_of(3, 9))
    for first, second in zip(tensors_in(params), tensors_in(again), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(generator.apply(batch.images, params).images, generator.apply(batch.images, again).images)


@pytest.mark.parametrize("name", ["rectangles", "erasing", "blobs", "block-grid"])
@settings(max_examples=15, deadline=None)
@given(asked=st.floats(0.03, 0.97), seed=SEEDS)
def test_coverage_is_what_was_asked_for(name: str, asked: float, seed: int) -> None:
    options = {"pattern": "scattered", "blocks": 14} if name == "block-grid" else {}
    generator = build(name, severity=asked, **options)
    batch = faces(4, seed % 1000, height=112, width=112)
    mask = generator.apply(batch.images, generator.sample(batch, seeds_of(4, seed))).mask
    assert (mask.mean(dim=(1, 2, 3)) - asked).abs().max() <= 0.02


@settings(max_examples=25, deadline=None)
@given(asked=st.floats(0.03, 0.97), seed=SEEDS)
def test_half_a_face_is_the_share_of_it_that_was_asked_for(asked: float, seed: int) -> None:
    generator = build("half-face", severity=asked)
    batch = faces(4, seed % 1000, height=112, width=112)
    assert batch.landmarks is not None
    mask = generator.apply(batch.images, generator.sample(batch, seeds_of(4, seed))).mask
    assert (hidden_fractions(mask, batch.landmarks)["face"] - asked).abs().max() <= 0.025


@pytest.mark.parametrize("blocks", [2, 5, 9])
@settings(max_examples=15, deadline=None)
@given(asked=st.floats(0.001, 1), seed=SEEDS)
def test_a_rectangle_of_blocks_is_the_nearest_there_is(blocks: int, asked: float, seed: int) -> None:
    generator = build("block-grid", severity=asked, blocks=blocks)
    batch = faces(4, 1, height=blocks * 8, width=blocks * 8)
    mask = generator.apply(batch.images, generator.sample(batch, seeds_of(4, seed))).mask
    sizes = torch.tensor([tall * wide for tall in range(1, blocks + 1) for wide in range(1, blocks + 1)]) / blocks**2
    least = (sizes - asked).abs().min()
    assert ((mask.mean(dim=(1, 2, 3)) - asked).abs() - least).abs().max() <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_one_structure_whatever_the_batch(name: str) -> None:
    """Those of an image are the same alone and among others, also where parts of a choice get none of the batch."""
    batch, generator = faces(6, 3), built(name)
    assert batch.landmarks is not None
    together = generator.sample(batch, seeds_of(6, 4))
    for row in range(6):
        alone = generator.sample(part_of(batch, [row]), seeds_of(6, 4)[row : row + 1])
        for one, other in zip(tensors_in(alone), tensors_in(together), strict=True):
            assert torch.equal(one[0], other[row])
        text = json.loads(json.dumps(to_plain(together, row)))
        assert tensors_in(from_plain([text], alone))[0].shape == tensors_in(alone)[0].shape


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_together_is_told(name: str) -> None:
    batch, generator = faces(4, 3), built(name)
    params = generator.sample(batch, seeds_of(4, 0))
    for images in (batch.images[:3], torch.cat([batch.images] * 2)):
        with pytest.raises(OccframeError, match=f"parameters of 4 images for {len(images)} images"):
            generator.apply(images, params)
    for seeds in (seeds_of(3, 0), seeds_of(4, 0).int(), seeds_of(4, 0).float()):
        with pytest.raises(OccframeError, match=r"\[4\] int64 seeds expected"):
            generator.sample(batch, seeds)
    for images in (batch.images[:, :1], batch.images.permute(0, 2, 3, 1), batch.images.int()):
        with pytest.raises(OccframeError, match=r"\[B, 3, H, W\] images, uint8 or float, expected"):
            generator.sample(replace(batch, images=images), seeds_of(4, 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("count", "height", "width"), [(0, 64, 56), (2, 1, 1), (2, 1, 112), (2, 112, 1), (3, 2, 3)])
def test_batches_of_nothing_and_pictures_of_a_pixel(name: str, count: int, height: int, width: int) -> None:
    batch, generator = faces(max(count, 1), 3, height=height, width=width), built(name)
    batch = part_of(batch, list(range(count)))
    occluded = generator.apply(batch.images, generator.sample(batch, seeds_of(count, 5)))
    assert occluded.images.shape == batch.images.shape
    assert occluded.mask.shape == (count, 1, height, width)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("rectangles", "erasing", "block-grid")])
def test_black_pixels_have_gradients_too(name: str) -> None:
    batch, generator = faces(3, 3), built(name)
    images = batch.images.float() / 255
    images[:, :, 10:30, 10:30] = 0
    images.requires_grad_()
    generator.apply(images, generator.sample(batch, seeds_of(3, 6))).images.sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_faces_without_landmarks_are_aligned_crops(name: str) -> None:
    without = replace(faces(2, 0), landmarks=None)
    aligned = replace(without, landmarks=template_landmarks(HEIGHT, WIDTH).expand(2, 5, 2))
    seen = [built(name).apply(batch.images, built(name).sample(batch, seeds_of(2, 0))) for batch in (without, aligned)]
    assert torch.equal(seen[0].images, seen[1].images)


def test_grey_photographs_stay_grey() -> None:
    batch = faces(6, 3)
    grey = batch.images[:, :1].expand(-1, 3, -1, -1).contiguous()
    batch = replace(batch, images=grey)
    for name in ("glasses", "sunglasses", "medical-mask", "scarf", "hat", "hair", "object"):
        generator = build(name, severity=0.7)
        seen = generator.apply(grey, generator.sample(batch, seeds_of(6, 1))).images.int()
        assert (seen.amax(1) - seen.amin(1)).max() <= 24, name


def test_missing_and_empty_sprites_are_errors(tmp_path: Path) -> None:
    with pytest.raises(OccframeError, match="nothing at"):
        build("sprites", url=str(tmp_path / "absent"))
    with pytest.raises(OccframeError, match="no sprites"):
        build("sprites", url=str(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(OccframeError, match=r"broken\.png"):
        build("sprites", url=str(tmp_path))
    with pytest.raises(ConfigError, match="at least 1 character"):
        build("sprites", url="")
    cv2.imwrite(str(tmp_path / "broken.png"), np.zeros((9, 9, 4), np.uint8))
    with pytest.raises(OccframeError, match=r"broken\.png is transparent all over"):
        build("sprites", url=str(tmp_path))
    with pytest.raises(
        OccframeError, match=r"suite_configs\.py is damaged, or neither a picture .* nor a Parquet file"
    ):
        build("sprites", url=suite_configs.__file__)


def test_a_store_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bool:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(MemoryFileSystem, "exists", refuse)
    with pytest.raises(OccframeError, match="cannot look at memory://x: no credentials"):
        build("sprites", url="memory://x")


def test_face_sprites_sit_where_they_were_drawn(tmp_path: Path) -> None:
    """The ends of a bar from eye to eye lie on the eyes of any face."""
    bar = np.zeros((112, 112, 4), np.uint8)
    bar[49:54, 38:74, 3] = 255
    cv2.imwrite(str(tmp_path / "bar.png"), bar)
    still: dict[str, Any] = {"severity": 0.5, "shift": 0, "stretch": 0, "turn": 0}
    generator = build("face-sprites", url=str(tmp_path), **still)
    turned = template_landmarks(112, 112).flip(1) * torch.tensor([-0.6, 0.6]) + torch.tensor([110.0, 20.0])
    batch = replace(faces(2, 1, height=128, width=128), landmarks=torch.stack([template_landmarks(128, 128), turned]))
    masks = generator.apply(batch.images, generator.sample(batch, seeds_of(2, 1))).mask
    for mask, eyes in zip(masks, batch.landmarks, strict=True):
        for place in (0.05, 0.5, 0.95):
            x, y = (eyes[0] + (eyes[1] - eyes[0]) * place).round().long().tolist()
            assert mask[0, y, x] > 0.9
        for place in (-0.2, 1.2):
            x, y = (eyes[0] + (eyes[1] - eyes[0]) * place).round().long().tolist()
            assert mask[0, y, x] == 0


def test_a_face_sprite_that_is_not_square_is_an_error(sprites: Path) -> None:
    with pytest.raises(OccframeError, match=r"sprite .*disc\.png is 60 x 40 pixels, not square"):
        build("face-sprites", url=str(sprites))


def test_sprites_from_parquet(tmp_path: Path, sprites: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = [path.read_bytes() for path in sorted(sprites.iterdir())]
    pq.write_table(pa.table({"image": encoded}), tmp_path / "sprites.parquet")
    (tmp_path / "parts").mkdir()
    for at, one in enumerate(encoded):
        pq.write_table(pa.table({"image": [one]}), tmp_path / "parts" / f"{at}.parquet")
    batch, ours = faces(5, 1), build("sprites")
    params = ours.sample(batch, seeds_of(5, 4))
    for name in ("sprites.parquet", "parts"):
        theirs = build("sprites", url=str(tmp_path / name))
        assert theirs.version == ours.version
        assert torch.equal(ours.apply(batch.images, params).images, theirs.apply(batch.images, params).images)
    assert build("sprites", url=str(sprites / "disc.png")).pictures.count == 1
    (tmp_path / "parts" / "seen.png").write_bytes(encoded[0])
    with pytest.raises(OccframeError, match=r"holds pictures \(.*seen\.png\) and Parquet files \(.*0\.parquet\)"):
        build("sprites", url=str(tmp_path / "parts"))
    whole = bytearray((tmp_path / "sprites.parquet").read_bytes())
    whole[-200:-100] = b"\xff" * 100  # of its footer
    (tmp_path / "sprites.parquet").write_bytes(whole)
    with pytest.raises(OccframeError, match=r"sprites\.parquet is damaged"):
        build("sprites", url=str(tmp_path / "sprites.parquet"))
    pq.write_table(pa.table({"image": ["disc.png"]}), tmp_path / "names.parquet")
    with pytest.raises(OccframeError, match=r"names\.parquet row 0: `image` holds str, not a picture's bytes"):
        build("sprites", url=str(tmp_path / "names.parquet"))


@pytest.mark.parametrize(("use", "key"), [("choice", "of"), ("compose", "layers")])
def test_parts_may_be_written_by_themselves(use: str, key: str) -> None:
    written: list[Any] = ["hat", {"use": "scarf", "severity": 0.4}]
    short = build(use, **{key: written})
    long = build(use, **{key: [{"occlusion": part} for part in written]})
    assert short.recipe == long.recipe
    with pytest.raises(ConfigError) as wrong:
        build(use, **{key: ["hat", 3]})
    assert "a mapping is expected, {key: value}" in str(wrong.value)
    assert "at least 1 item" not in str(wrong.value)
    with pytest.raises(ConfigError, match="at least 1 item"):
        build(use, **{key: []})
    beside = {"choice": {"weight": 3}, "compose": {"probability": 0.3}}[use]
    assert (
        build(use, **{key: [{"use": "scarf"} | beside]}).recipe
        == build(use, **{key: [{"occlusion": "scarf"} | beside]}).recipe
    )


def test_a_sweep_sets_the_severity_of_what_is_chosen_from() -> None:
    batch = faces(4, 5)
    generator = build("choice", of=[{"occlusion": "glasses"}, {"occlusion": "scarf"}], severity=0.0)
    occluded = generator.apply(batch.images, generator.sample(batch, seeds_of(4, 1)))
    assert torch.equal(occluded.images, batch.images)
    generator = build("choice", of=[{"occlusion": "rectangles"}, {"occlusion": "erasing"}], severity=0.3)
    mask = generator.apply(batch.images, generator.sample(batch, seeds_of(4, 1))).mask
    assert (mask.mean(dim=(1, 2, 3)) - 0.3).abs().max() <= 0.02


def test_glasses_tell_their_parts() -> None:
    batch = faces(6, 2, height=112, width=112)
    generator = build("glasses", severity=0.5, lenses=["tinted"], shapes=["square"], thickness_mm=[3, 5])
    occluded = generator.apply(batch.images, generator.sample(batch, seeds_of(6, 1)))
    assert set(occluded.parts) == {"frame", "lens", "shadow"}
    for alpha in occluded.parts.values():
        assert alpha.amax(dim=(1, 2, 3)).min() > 0.1
        assert (occluded.mask >= alpha - 1e-6).all()


def test_a_black_bar_is_black() -> None:
    """What is put in after the photograph was taken has none of its grain."""
    batch = faces(3, 8, height=112, width=112)
    generator = build("eye-bar", severity=0.5)
    occluded = generator.apply(batch.images, generator.sample(batch, seeds_of(3, 1)))
    hidden = (occluded.mask == 1).expand_as(occluded.images)
    assert hidden.any()
    assert not occluded.images[hidden].any()


@pytest.mark.parametrize("name", ["glasses", "sunglasses", "medical-mask", "hat", "dirt", "scarf", "object", "sprites"])
def test_painting_all_at_once_as_a_gpu_does_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the batch is painted in one go, unsorted, with every layer for every image."""
    from occframe_occlusions import painted
    from occframe_occlusions.canvas import Canvas

    batch, generator = faces(9, 6), built(name)
    params = generator.sample(batch, seeds_of(9, 2))
    usual = generator.apply(batch.images, params)
    monkeypatch.setattr(painted, "_CHUNK_PIXELS", 1 << 30)
    monkeypatch.setattr(Canvas, "needs", lambda self, *values: True)
    monkeypatch.setattr(type(generator), "grouping", lambda self, params: None)
    at_once = generator.apply(batch.images, params)
    assert torch.equal(usual.images, at_once.images)
    assert torch.equal(usual.mask, at_once.mask)


#: Drawn on the CPU, or of a number of images that only the draw tells.
_ASK = {"rectangles", "choice", "compose"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in _ASK])
def test_on_another_device_nothing_waits_for_values(name: str) -> None:
    """The device "meta" has none to give, and takes no part in operations with tensors of the CPU."""
    batch, generator = faces(4, 6), built(name)
    assert batch.landmarks is not None
    there = replace(batch, images=batch.images.to("meta"), landmarks=batch.landmarks.to("meta"))
    occluded = generator.apply(there.images, generator.sample(there, seeds_of(4, 2).to("meta")))
    assert occluded.images.shape == batch.images.shape
    assert {tensor.device.type for tensor in (occluded.images, occluded.mask, *occluded.parts.values())} == {"meta"}


class _DivisionsByNumbers(TorchDispatchMode):
    """CUDA multiplies by the number's reciprocal instead, whose last bit may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function._schema.name == "aten::div" and not isinstance(args[1], Tensor):
            self.found.append(args[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rectangles"])
def test_parameters_are_drawn_by_what_all_devices_round_alike(name: str) -> None:
    batch, generator = faces(4, 6), built(name)
    with _DivisionsByNumbers() as divisions:
        generator.sample(batch, seeds_of(4, 2))
    assert not divisions.found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_gpu_and_cpu_agree(name: str) -> None:
    batch, generator = faces(8, 6, height=112, width=112), built(name)
    assert batch.landmarks is not None
    seeds = seeds_of(8, 2)
    moved = replace(batch, images=batch.images.cuda(), landmarks=batch.landmarks.cuda())
    here, there = generator.sample(batch, seeds), generator.sample(moved, seeds.cuda())
    for ours, theirs in zip(tensors_in(here), tensors_in(there), strict=True):
        assert torch.equal(ours, theirs.cpu())
    one, two = generator.apply(batch.images, here), generator.apply(moved.images, there)
    assert (one.images.int() - two.images.cpu().int()).abs().max() <= 1
    assert (one.mask - two.mask.cpu()).abs().max() <= 1 / 255
