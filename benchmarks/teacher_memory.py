"""A teacher that embeds each picture once for all trainings of a study.

A training face comes in four forms, mirrored or not, grey or not, so that the trainings of a study ask a teacher the
same questions again and again; asking it anew is a third of the time of a MobileFaceNet's training step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from occframe.models import LoadedModel, embed_images


class TeacherMemory:
    """Embeddings by the bytes of uint8 pictures on the CPU, float16, kept in ``file``. For one teacher only."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[bytes, np.ndarray] = {}
        if file.exists():
            with np.load(file) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
            self.known = {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    def embed(self, teacher: LoadedModel, images: Tensor, **options: object) -> Tensor:
        """As ``embed_images``; images: [B, 3, H, W] uint8."""
        pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
        keys = [hashlib.blake2b(picture.tobytes(), digest_size=12).digest() for picture in pictures]
        new = [at for at, key in enumerate(keys) if key not in self.known]
        if new:
            vectors = embed_images(teacher, images[new], **options).half().numpy()  # type: ignore[arg-type]
            self.known |= {keys[at]: vector for at, vector in zip(new, vectors, strict=True)}
        return torch.from_numpy(np.stack([self.known[key] for key in keys])).float()

    def save(self) -> None:
        partial = self.file.with_suffix(".partial.npz")
        keys = np.array([np.frombuffer(key, np.uint8) for key in self.known])
        np.savez(partial, keys=keys, vectors=np.array(list(self.known.values())))
        partial.replace(self.file)


@contextmanager
def remembered(file: Path) -> Iterator[None]:
    """While it lasts, ``train`` steps ask the memory in ``file`` first."""
    memory = TeacherMemory(file)
    before = len(memory.known)
    with patch("occframe.training.recogniser.embed_images", memory.embed):
        yield
    if len(memory.known) > before:
        memory.save()
