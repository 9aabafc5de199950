"""How parameters of public checkpoints are called here, and what a checkpoint's names say about its network.

MobileFaceNet, module by module (each keeps its own ``weight``, ``bias``, ``running_mean`` …):

======================================  ============================  =========================
occframe                                foamliu/MobileFaceNet         Xiaoccer/MobileFaceNet_Pytorch
======================================  ============================  =========================
stem.{conv,norm,act}                    conv1.{0,1,-}                 conv1.{conv,bn,prelu}
stem_depthwise.{conv,norm,act}          dw_conv.{depthwise,bn1,-}     dw_conv1.{conv,bn,prelu}
stem_pointwise.{conv,norm}              dw_conv.{pointwise,bn2}       -
stage1.0-4, stage2.0-6, stage3.0-2      features.0-14                 blocks.0-14
  expand.{conv,norm,act}                  conv.0.{0,1,-}                conv.{0,1,2}
  depthwise.{conv,norm,act}               conv.1.{0,1,-}                conv.{3,4,5}
  project.{conv,norm}                     conv.{2,3}                    conv.{6,7}
last.{conv,norm,act}                    conv2.{0,1,-}                 conv2.{conv,bn,prelu}
pool.{conv,norm}                        gdconv.{depthwise,bn}         linear7.{conv,bn}
fc.{conv,norm}                          conv3, bn                     linear1.{conv,bn}
======================================  ============================  =========================

IResNet's names are InsightFace's own and need no map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_BLOCKS = [*(f"stage1.{i}" for i in range(5)), *(f"stage2.{i}" for i in range(7)), *(f"stage3.{i}" for i in range(3))]

_FOAMLIU = {
    "conv1.0": "stem.conv",
    "conv1.1": "stem.norm",
    "dw_conv.depthwise": "stem_depthwise.conv",
    "dw_conv.bn1": "stem_depthwise.norm",
    "dw_conv.pointwise": "stem_pointwise.conv",
    "dw_conv.bn2": "stem_pointwise.norm",
    "conv2.0": "last.conv",
    "conv2.1": "last.norm",
    "gdconv.depthwise": "pool.conv",
    "gdconv.bn": "pool.norm",
    "conv3": "fc.conv",
    "bn": "fc.norm",
}
_FOAMLIU_BLOCK = {
    "conv.0.0": "expand.conv",
    "conv.0.1": "expand.norm",
    "conv.1.0": "depthwise.conv",
    "conv.1.1": "depthwise.norm",
    "conv.2": "project.conv",
    "conv.3": "project.norm",
}
_XIAOCCER = {
    f"{theirs}.{part}": f"{ours}.{own_part}"
    for theirs, ours in {
        "conv1": "stem",
        "dw_conv1": "stem_depthwise",
        "conv2": "last",
        "linear7": "pool",
        "linear1": "fc",
    }.items()
    for part, own_part in {"conv": "conv", "bn": "norm", "prelu": "act"}.items()
}
_XIAOCCER_BLOCK = {
    "conv.0": "expand.conv",
    "conv.1": "expand.norm",
    "conv.2": "expand.act",
    "conv.3": "depthwise.conv",
    "conv.4": "depthwise.norm",
    "conv.5": "depthwise.act",
    "conv.6": "project.conv",
    "conv.7": "project.norm",
}


def _with_blocks(outer: Mapping[str, str], folder: str, inner: Mapping[str, str]) -> dict[str, str]:
    blocks = {
        f"{folder}.{index}.{theirs}": f"{block}.{ours}"
        for index, block in enumerate(_BLOCKS)
        for theirs, ours in inner.items()
    }
    return {**outer, **blocks}


#: a parameter that only this layout has -> its modules by our names.
LAYOUTS = {
    "gdconv.depthwise.weight": _with_blocks(_FOAMLIU, "features", _FOAMLIU_BLOCK),
    "linear7.conv.weight": _with_blocks(_XIAOCCER, "blocks", _XIAOCCER_BLOCK),
}


def to_own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a public MobileFaceNet's parameters to ours. Unknown names stay: the strict check reports them."""
    modules = next((table for mark, table in LAYOUTS.items() if mark in state), {})
    renamed = {}
    for key, tensor in state.items():
        module, dot, parameter = key.rpartition(".")
        renamed[modules.get(module, module) + dot + parameter] = tensor
    return renamed


_IRESNET_BLOCKS: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "iresnet18",
    (3, 4, 6, 3): "iresnet34",
    (3, 4, 14, 3): "iresnet50",
    (3, 13, 30, 3): "iresnet100",
}


def guess_block(state: Mapping[str, Tensor]) -> str | None:
    """The backbone block that would load these parameters, as YAML flow text; None for a network not of this plugin."""
    own = {key: tuple(tensor.shape) for key, tensor in to_own_names(state).items()}
    match own.get("pool.conv.weight"), own.get("fc.conv.weight"):
        case (_, _, rows, columns), (embedding_dim, *_):
            preset = "foamliu" if "stem_pointwise.conv.weight" in own else "paper"
            size = f"input_size: [{16 * rows}, {16 * columns}]"
            return f"{{use: mobilefacenet, preset: {preset}, {size}, embedding_dim: {embedding_dim}}}"
    stages = [{key.split(".")[1] for key in own if key.startswith(f"layer{stage}.")} for stage in range(1, 5)]
    name = _IRESNET_BLOCKS.get(tuple(len(blocks) for blocks in stages))
    match own.get("fc.weight"):
        # ResNets have stages of these lengths too; only IResNet has a PReLU in every block.
        case (embedding_dim, flat) if name and "layer1.0.prelu.weight" in own:
            size = {49 * 512: "input_size: [112, 112], ", 42 * 512: "input_size: [112, 96], "}.get(flat, "")
            return f"{{use: {name}, {size}embedding_dim: {embedding_dim}}}"
    return None
