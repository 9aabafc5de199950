"""Finding a FAISS that works: faiss-cpu and faiss-gpu own the same folder, and neither wheel says so."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from types import ModuleType

from occframe.errors import OccframeError

WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")
_EXTRAS = '`pip install "occframe[cpu]"`, or `pip install "occframe[gpu]"` on a machine with CUDA'
_OR_TORCH = "; or write `matcher: torch`, which needs no FAISS"


def load_faiss() -> ModuleType:
    """The faiss module. Raises OccframeError: not installed, half uninstalled or broken, each with the way out."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError as error:
        raise _explain(f"importing it fails: {error}", found=not isinstance(error, ModuleNotFoundError)) from error
    if not hasattr(faiss, "IndexFlatIP"):
        raise _explain(f"the folder {_folder(faiss)} is empty", found=True)
    return faiss


def gpu_numbers(faiss: ModuleType, device: str, count: int = 1) -> list[int]:
    """Which GPUs to search on, none for the CPU. device: a torch device string, the pipeline's. count: from it on.

    Warns, in one line, where the pipeline runs on a GPU that this FAISS cannot use, or there are fewer.
    """
    if not device.startswith("cuda"):
        return []
    first = int(device.partition(":")[2] or 0)
    # faiss-cpu answers get_num_gpus() too, with 0.
    there = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if first < there:
        if first + count > there:
            _warn(f"FAISS sees {there} GPUs, {count} from {device} on are asked for: it searches on {there - first}")
        return list(range(first, min(first + count, there)))
    wheels = _installed()
    remedy = _replace(wheels, "gpu") if "faiss-cpu" in wheels else "`occframe doctor` shows what FAISS sees"
    _warn(f"FAISS cannot use {device} and searches on the CPU; {remedy}")
    return []


def on_cpu_instead(profile: str, device: str) -> None:
    """Says that FAISS has no such profile for GPUs."""
    _warn(f"FAISS has no `{profile}` for GPUs and searches on the CPU, not {device}")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def _explain(fault: str, *, found: bool) -> OccframeError:
    wheels = _installed()
    if len(wheels) > 1:
        return OccframeError(
            f"FAISS does not work, {fault}: {' and '.join(wheels)} are both installed and overwrite each other",
            remedy=_replace(wheels, "cpu") + _OR_TORCH,
        )
    if wheels:
        return OccframeError(
            f"FAISS does not work, {fault}: {wheels[0]} lost its files, as when the other wheel is uninstalled",
            remedy=f"`pip install --force-reinstall --no-deps {wheels[0]}`{_OR_TORCH}",
        )
    if found:
        return OccframeError(
            f"FAISS does not work, {fault}: it is what an uninstall left behind",
            remedy=f"delete that folder, then {_EXTRAS}{_OR_TORCH}",
        )
    return OccframeError("FAISS is not installed", remedy=_EXTRAS + _OR_TORCH)


def _installed() -> list[str]:
    present = {(name or "").lower() for name in (item.name for item in importlib.metadata.distributions())}
    return [wheel for wheel in WHEELS if wheel in present]


def _replace(wheels: list[str], extra: str) -> str:
    return f'`pip uninstall -y {" ".join(wheels)}`, then `pip install "occframe[{extra}]"`'


def _folder(module: ModuleType) -> str:
    return next(iter(getattr(module, "__path__", [])), "faiss")
