"""What ``occframe doctor`` looks at: the machine and the installation, with a remedy for each fault."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Literal

from occframe.machine import usable_cores
from occframe.plugins import PluginRegistry


@dataclass(frozen=True)
class Finding:
    """level: "ok", "note" (works, but know this) or "bad"."""

    what: str
    level: Literal["ok", "note", "bad"]
    found: str
    remedy: str | None = None


def examine() -> list[Finding]:
    return [*_python(), *_torch(), *_opencv(), *_faiss(), *_plugins()]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    level: Literal["ok", "bad"] = "ok" if sys.version_info >= (3, 11) else "bad"
    yield Finding(
        "Python", level, f"{version} at {sys.executable}", None if level == "ok" else "use Python 3.11 or newer"
    )
    yield Finding("cores", "ok", f"{usable_cores()} usable of {os.cpu_count()}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken CUDA library raises OSError, not ImportError
        yield Finding("torch", "bad", f"does not import: {error}", "pip install 'torch>=2.6'")
        return
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            yield Finding(f"cuda:{number}", "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GiB")
    else:
        built = torch.version.cuda
        reason = f"torch is built for CUDA {built} but finds no device" if built else "this torch is a CPU build"
        yield Finding(
            "GPU",
            "note",
            f"none: {reason}",
            "everything runs on the CPU" if not built else "check the driver: nvidia-smi",
        )


def _opencv() -> Iterator[Finding]:
    owners = _owners_of("cv2")
    if len(owners) > 1:
        yield Finding(
            "OpenCV",
            "note",
            f"{' and '.join(owners)} are installed and write the same folder",
            f"{_uninstall(owners)} && pip install opencv-python-headless",
        )
    try:
        import cv2

        yield Finding("OpenCV", "ok", cv2.__version__)
    except Exception as error:
        yield Finding(
            "OpenCV", "bad", f"does not import: {error}", "pip install --force-reinstall opencv-python-headless"
        )


def _faiss() -> Iterator[Finding]:
    owners = _owners_of("faiss")
    if len(owners) > 1:
        yield Finding(
            "faiss",
            "bad",
            f"{' and '.join(owners)} are installed together and overwrite each other",
            f'{_uninstall(owners)}, then one of: pip install "occframe[cpu]" or "occframe[gpu]"',
        )
        return
    try:
        import faiss
    except ImportError:
        yield Finding(
            "faiss",
            "note",
            "not installed: matcher `torch` works, `faiss` does not",
            'pip install "occframe[cpu]" or "occframe[gpu]"',
        )
        return
    if not hasattr(faiss, "IndexFlatIP"):
        # Uninstalling one of two faiss wheels leaves an importable folder without a library.
        yield Finding(
            "faiss",
            "bad",
            "an empty folder is left of an uninstalled wheel",
            'pip install --force-reinstall "faiss-cpu" or "faiss-gpu"',
        )
        return
    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    kind = f"{gpus} GPUs" if gpus else "CPU only"
    yield Finding("faiss", "ok", f"{faiss.__version__} ({', '.join(owners) or 'not from a wheel'}), {kind}")


def _owners_of(folder: str) -> list[str]:
    """Distributions that write ``folder``, by the names the wheels are known to have."""
    known = {
        "faiss": {"faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-cuda"},
        "cv2": {
            "opencv-python",
            "opencv-python-headless",
            "opencv-contrib-python",
            "opencv-contrib-python-headless",
        },
    }[folder]
    found = {(item.name or "").lower().replace("_", "-"): item.version for item in distributions()}
    return [f"{name} {found[name]}" for name in sorted(known & set(found))]


def _uninstall(owners: list[str]) -> str:
    return "pip uninstall -y " + " ".join(owner.split()[0] for owner in owners)


def _plugins() -> Iterator[Finding]:
    registry = PluginRegistry.discover()
    for record in registry.records:
        if record.status in ("failed", "incompatible"):
            remedy = f"pip install --upgrade {record.distribution}, or OCCFRAME_DISABLED_PLUGINS={record.name}"
            yield Finding(f"plugin {record.label}", "bad", f"{record.status}: {record.error}", remedy)
        elif record.status == "blocked":
            reason = "blocked by OCCFRAME_LOAD_PLUGINS or OCCFRAME_DISABLED_PLUGINS"
            yield Finding(f"plugin {record.label}", "note", reason)
    loaded = [record for record in registry.records if record.status == "loaded"]
    yield Finding("plugins", "ok", f"{len(loaded)} loaded, {len(registry.components())} components")
