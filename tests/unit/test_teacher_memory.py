"""The study's teacher answers what the model would, and asks it once."""

from __future__ import annotations

import torch

from benchmarks import teacher_memory
from benchmarks.teacher_memory import TeacherMemory


def test_every_picture_is_embedded_once_and_kept(tmp_path, monkeypatch) -> None:
    asked = []

    def embed(teacher, images, **options):
        asked.append(len(images))
        return images.float().mean((2, 3)) / 256

    monkeypatch.setattr(teacher_memory, "embed_images", embed)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    memory = TeacherMemory(tmp_path / "memory.npz")
    first = memory.embed(None, images[:3], precision="bf16")
    torch.testing.assert_close(first, images[:3].float().mean((2, 3)) / 256, rtol=1e-3, atol=0)
    second = memory.embed(None, images)
    assert asked == [3, 2]
    memory.save()
    again = TeacherMemory(tmp_path / "memory.npz").embed(None, images.flip(0))
    assert asked == [3, 2]
    assert torch.equal(again, second.flip(0))
