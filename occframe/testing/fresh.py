"""How the plugins of a distribution load in a process of their own: what they import, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Packages that take a second to import. Listing plugins and validating a pipeline must do without.
HEAVY = [
    "cv2",
    "faiss",
    "jax",
    "lightning",
    "matplotlib",
    "mlflow",
    "onnxruntime",
    "openvino",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "tensorflow",
    "timm",
    "torch",
    "torchvision",
    "transformers",
]

_CODE = """
import json, sys
heavy, distribution, inline = json.loads(sys.stdin.read())
def found():
    return {name for name in heavy if name in sys.modules}
from pathlib import Path
import pydantic
from occframe.component import Config
from occframe.plugins import PluginRegistry
before = found()
registry = PluginRegistry.discover(only=[distribution], inline=[Path(item) for item in inline])
after = found()
answer = {"plugins": sorted(after - before), "components": {}}
for component in registry.components():
    try:
        if component.config is not None:
            component.load_config()
        error = None
    except Exception as raised:
        error = str(raised)
    now = found()
    answer["components"][f"{component.kind}/{component.name}"] = {"heavy": sorted(now - after), "error": error}
    after = now
sys.stdout.write("\\n" + json.dumps(answer))
"""


@dataclass(frozen=True)
class Loaded:
    """heavy: packages that loading imported. error: why it failed, or None."""

    heavy: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class FreshLoad:
    """plugins: heavy packages that listing imported. components: by ``kind/name``, loading their configurations."""

    plugins: tuple[str, ...]
    components: dict[str, Loaded] = field(default_factory=dict)
    error: str | None = None


def load_in_fresh_process(distribution: str, inline: Sequence[Path]) -> FreshLoad:
    request = json.dumps([HEAVY, distribution, [str(path) for path in inline]])
    done = subprocess.run([sys.executable, "-c", _CODE], input=request, capture_output=True, text=True, check=False)
    if done.returncode:
        return FreshLoad((), error=(done.stderr.strip().splitlines() or ["the process died"])[-1])
    answer = json.loads(done.stdout.rpartition("\n")[2])
    components = {name: Loaded(tuple(entry["heavy"]), entry["error"]) for name, entry in answer["components"].items()}
    return FreshLoad(tuple(answer["plugins"]), components)
