"""Reading weights that strangers made: tensors only, never code, and strictly into the network they were made for."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occframe.errors import OccframeError, first_line
from occframe.fetching import sha256_of
from occframe.storage import filesystem, local_path

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Larger files are refused before they are read; an iresnet100 takes 0.25 GiB.
MAX_BYTES = 4 * 2**30

# Where training scripts keep the network: everybody, arcface_torch, Xiaoccer/MobileFaceNet_Pytorch.
_WRAPPERS = ("state_dict", "state_dict_backbone", "net_state_dict")
_COUNTER = "num_batches_tracked"
_SAFE = "ask its author for a .safetensors file, or for the bare `state_dict` saved with torch.save"


def locate_weights(source: str) -> str:
    """The path or URL of a source: itself, or for ``registry:NAME`` the verified file in the cache of this machine.

    The cache is ``$OCCFRAME_CACHE/weights``, by default ``~/.cache/occframe/weights``; nothing is downloaded.
    Raises OccframeError: unknown name, file absent (says from where, on which terms, to where), or not the right file.
    """
    if not source.startswith("registry:"):
        return source
    from occframe_registry import weights

    name, entries = source.removeprefix("registry:"), weights()
    if name not in entries:
        raise OccframeError(
            f"the registry knows no weights `{name}`", remedy=f"there are: {', '.join(sorted(entries))}"
        )
    entry = entries[name]
    path = cache_dir() / "weights" / entry.file
    if not path.is_file():
        raise OccframeError(
            f"the weights `{name}` are not on this machine (licence: {entry.licence}; {entry.terms})",
            remedy=f"run `occframe weights fetch {name}`, or get the file of {entry.bytes:,} bytes that {entry.origin} "
            f"is the origin of, and put it at {path}",
        )
    digest = sha256_of(path)
    if digest != entry.sha256:
        raise OccframeError(
            f"{path} is not the file the registry describes: its sha256 is {digest}, not {entry.sha256}",
            remedy="delete it and fetch it again, or name the file by its path if you mean this one",
        )
    return str(path)


def cache_dir() -> Path:
    """``$OCCFRAME_CACHE``, or ``~/.cache/occframe``."""
    return Path(os.environ.get("OCCFRAME_CACHE") or Path.home() / ".cache" / "occframe")


def read_state_dict(source: str) -> dict[str, Tensor]:
    """Tensors by parameter name, on the CPU, from safetensors or a torch checkpoint that holds nothing but tensors.

    source: a path, any fsspec URL, or ``registry:NAME``. The format is told by the content, not by the file's name.
    ``{"state_dict": …}`` is unwrapped and the "module." that DataParallel puts before every name is removed.
    Raises OccframeError for a file that is absent, too large, damaged, of no known format, or holds code.
    """
    url = locate_weights(source)
    path = local_path(url)
    try:
        if path is not None:
            _check_size(path.stat().st_size, url)
            with open(path, "rb") as file:
                return _parse(file, url, path)
        fs, remote = filesystem(url)
        with fs.open(remote, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise OccframeError(f"there are no weights at {url}", remedy="check the path") from error
    except OSError as error:
        raise OccframeError(
            f"cannot read the weights {url}: {error}", remedy="check the path and its permissions"
        ) from error
    _check_size(len(data), url)
    return _parse(io.BytesIO(data), url, None)


def load_weights(module: nn.Module, source: str) -> None:
    """Load ``read_state_dict(source)`` strictly, as ``load_state_dict`` does. source: as there."""
    load_state_dict(module, read_state_dict(source), origin=source)


def load_state_dict(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy ``state`` into ``module``: every parameter and buffer, each of the right shape, or none at all.

    A module may offer ``adapt_state_dict(state) -> state``, which renames the parameters of other implementations, and
    ``describe_state_dict(state) -> str | None``, which recognises a checkpoint and is quoted when it does not fit.
    Raises OccframeError naming keys and shapes. origin: what to call the checkpoint then.
    """
    adapt = getattr(module, "adapt_state_dict", dict)
    describe = getattr(module, "describe_state_dict", None)
    given = dict(adapt(state))
    wanted = module.state_dict()
    # Batch norms' counters: torch before 0.4.1 did not save them (torch fills them in), and they tell a reader nothing.
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNTER)]
    unexpected = sorted((key for key in given if key not in wanted), key=lambda key: key.endswith(_COUNTER))
    reshaped = [
        f"{key} {list(given[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in given and given[key].shape != tensor.shape
    ]
    if missing or unexpected or reshaped:
        faults = [_some("missing", missing), _some("unknown to it", unexpected), _some("of another shape", reshaped)]
        found = describe(state) if describe else None
        raise OccframeError(
            f"the weights {origin} do not fit this {type(module).__name__}: {'; '.join(filter(None, faults))}",
            remedy=f"they look like `{found}`" if found else "name the backbone, and the options, they were made for",
        )
    module.load_state_dict(given)


def _some(label: str, items: list[str], shown: int = 4) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return f"{len(items)} {label}: {', '.join(items[:shown])}{more}" if items else ""


def _check_size(size: int, url: str) -> None:
    if size > MAX_BYTES:
        raise OccframeError(
            f"{url} is larger than {MAX_BYTES / 2**30:.0f} GiB, more than any checkpoint of a face recogniser",
            remedy="check that it is the file you mean",
        )


def _parse(file: Any, url: str, path: Path | None) -> dict[str, Tensor]:
    start = file.read(16)
    file.seek(0)
    if start[8:9] == b"{":
        state = _read_safetensors(file, url, path)
    elif start[:4] == b"PK\x03\x04":
        _check_archive(file, url)
        state = _read_checkpoint(file, url)
    elif start[:1] == b"\x80":
        state = _read_checkpoint(file, url)
    else:
        raise OccframeError(
            f"{url} is neither a safetensors file nor a torch checkpoint{'' if start else ': it is empty'}",
            remedy="check that the download is complete and that it is no web page or Git LFS pointer",
        )
    if state and all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def _read_safetensors(file: Any, url: str, path: Path | None) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        return dict(load_file(path) if path is not None else load(file.read()))
    except SafetensorError as error:
        raise _damaged(url, error) from error


def _check_archive(file: Any, url: str) -> None:
    """torch.save stores records as they are: compressed or overlapping ones are somebody's bomb."""
    try:
        records = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise _damaged(url, error) from error
    finally:
        file.seek(0)
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise OccframeError(f"{url} is a TorchScript archive, which holds code; refused", remedy=_SAFE)
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise OccframeError(f"{url} is compressed, as torch.save never does: it was not unpacked", remedy=_SAFE)
    _check_size(sum(record.file_size for record in records), url)


def _read_checkpoint(file: Any, url: str) -> dict[str, Tensor]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise _damaged(url, error) from error
        raise OccframeError(
            f"{url} is a pickle that holds more than tensors: it calls {named[1]}, which could do anything; refused",
            remedy=_SAFE,
        ) from error
    except Exception as error:  # torch answers garbage with whatever its parser stumbled over
        raise _damaged(url, error) from error
    return _unwrap(content, url)


def _unwrap(content: Any, url: str) -> dict[str, Tensor]:
    import torch

    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise OccframeError(f"{url} holds {type(content).__name__}, no parameters by name", remedy=_SAFE)
    others = [
        str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if others:
        raise OccframeError(f"{url} holds entries that are no tensors: {', '.join(others[:4])}", remedy=_SAFE)
    return {str(key): tensor for key, tensor in content.items()}


def _damaged(url: str, error: Exception) -> OccframeError:
    reason = first_line(error)[:200]
    return OccframeError(f"the weights {url} are damaged or cut short: {reason}", remedy="fetch the file again")
