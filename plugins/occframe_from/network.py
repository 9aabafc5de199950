"""FROM around any trunk: what the trunk's maps show of an occlusion is masked out of its deepest map.

Qiu et al., "End2End Occluded Face Recognition by Masking Corrupted Features", TPAMI 2021, arXiv 2108.09468; the method
is claimed by EP4099217A4. docs/methods/from.md says which class implements what.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from occframe.errors import OccframeError
from occframe.trunks import build_trunk, under_trunk
from occframe.types import BackboneOutput, FeatureInfo
from occframe_from.codebook import blocks_of, codebook, pattern_count
from occframe_from.folding import fold_head, fold_trunk
from occframe_from.heads import CornerPredictor, NormedLinear
from occframe_from.masking import EmbeddingMaskDecoder, FlatMaskDecoder, Gate, MaskDecoder, MeanFill
from occframe_from.pyramid import FeaturePyramid

if TYPE_CHECKING:
    from occframe_from.configs import FromConfig

#: Parts that an earlier model may lack; they then begin as built.
_LATE_PARTS = ("pyramid", "decoder", "predictor", "fill")


class MaskedRecogniser(nn.Module):
    """Images [B, 3, H, W] -> BackboneOutput with the cleaned embedding [B, D].

    extras: ``mask`` [B, C, h, w] ("2d": [B, 1, h, w]; on the embedding: [B, D]), below 1 where features are corrupted;
    ``pattern_logits`` [B, P], or ``pattern_box`` [B, 4] (left, top, right, bottom as fractions of the image).

    trunk: a backbone with capability ``split`` and three maps, each half the size of the one before. head: from the
    (masked) deepest map to the embedding; None takes the trunk's. pyramid, decoder: None for a trunk without mask.
    predictor: reads the mask alone; None where nothing reads it. fill: what stands in the place of masked features,
    from map and mask; None: zero, as published.
    """

    def __init__(
        self,
        trunk: Any,
        *,
        head: nn.Module | None,
        pyramid: nn.Module | None,
        decoder: nn.Module | None,
        gate: Gate,
        predictor: nn.Module | None,
        mask_on_embedding: bool = False,
        fill: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.pyramid = pyramid
        self.decoder = decoder
        self.gate = gate
        self.predictor = predictor
        self.fill = fill
        self.mask_on_embedding = mask_on_embedding
        self.image_spec = trunk.image_spec
        self.embedding_dim: int = trunk.embedding_dim
        self.feature_info: Sequence[FeatureInfo] = tuple(trunk.feature_info)

    def forward(self, images: Tensor) -> BackboneOutput:
        maps = self.trunk.forward_features(images)
        if self.pyramid is None or self.decoder is None:
            return BackboneOutput(self._embed(maps[-1]), features=maps)
        mask = self.gate(self.decoder(self.pyramid(maps[-3:])))
        if self.mask_on_embedding:
            embedding = self._embed(maps[-1])
            embedding = embedding * mask.to(embedding.dtype)
        else:
            embedding = self._embed(maps[-1] * mask if self.fill is None else self.fill(maps[-1], mask))
        extras = {"mask": mask}
        if self.predictor is not None:
            name = "pattern_box" if isinstance(self.predictor, CornerPredictor) else "pattern_logits"
            extras[name] = self.predictor(mask)
        return BackboneOutput(embedding, features=maps, extras=extras)

    @property
    def columns(self) -> dict[str, str]:
        """What ``describe`` gives, with its types."""
        if self.decoder is None:
            return {}
        shares = {"masked": "float64"} | ({} if self.mask_on_embedding else {"mask": "list<float>"})
        box = {f"occluded_{side}": "int64" for side in ("left", "top", "right", "bottom")}
        if self.predictor is None:
            return shares
        if isinstance(self.predictor, CornerPredictor):
            return {**shares, **box}
        return {**shares, "pattern": "int64", "pattern_probability": "float64", **box}

    def describe(self, output: BackboneOutput) -> dict[str, Tensor]:
        """Of each image, [B]: ``masked``, share of its features that the mask took away; ``pattern`` of the codebook, 0
        for none, and its probability; ``occluded_left`` … ``occluded_bottom`` in pixels, right and bottom exclusive.
        ``mask``, [B, h w], where it lies on a map: what is left of each place, row by row, mean over the channels."""
        extras, height, width = output.extras, self.image_spec.height, self.image_spec.width
        mask = extras["mask"].float()
        said = {"masked": 1 - mask.flatten(1).mean(1)}
        if mask.ndim == 4:
            said["mask"] = mask.mean(1).flatten(1)
        if self.predictor is None:
            return said
        if "pattern_logits" in extras:
            shares = extras["pattern_logits"].float().softmax(1)
            said["pattern_probability"], said["pattern"] = shares.max(1)
            boxes = codebook(blocks_of(shares.shape[1]), height, width, shares.device).boxes[said["pattern"]]
        else:
            corners = extras["pattern_box"].float()
            boxes = (corners * corners.new_tensor([width, height, width, height])).round().long()
        return said | dict(zip(list(self.columns)[-4:], boxes.unbind(1), strict=True))

    def _embed(self, deepest: Tensor) -> Tensor:
        embedding: Tensor = self.trunk.forward_head(deepest) if self.head is None else self.head(deepest)
        return embedding

    # --- for use ------------------------------------------------------------------------------------------------------

    def embed_form(self) -> Self:
        """A copy that only embeds: no predictor, batch norms folded where that is exact. Same embedding to 1e-5."""
        form = self.explain_form()
        form.predictor = None
        return form

    def explain_form(self) -> Self:
        """A copy for inference that keeps the predictor; batch norms folded where that is exact."""
        form = copy.deepcopy(self).eval()
        fold_trunk(form.trunk)
        if isinstance(form.head, NormedLinear):
            form.head = fold_head(form.head)
        return form

    # --- weights ------------------------------------------------------------------------------------------------------

    def begin_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights to begin with, given those of an earlier model: the trunk alone, or a network like this one.

        Parts that the earlier model lacks as a whole stay as they are, and so does the predictor where the earlier one
        has other patterns; everything else must fit.
        """
        if (alone := under_trunk(self.trunk, state)) is not None:
            state = alone
            if self.head is not None:  # the trunk's own head has no place here
                state = {key: tensor for key, tensor in state.items() if key in self.state_dict()}
        shapes = [
            {key: tensor.shape for key, tensor in weights.items() if key.startswith("predictor.")}
            for weights in (state, self.state_dict())
        ]
        if shapes[0] != shapes[1]:
            state = {key: tensor for key, tensor in state.items() if key not in shapes[0]}
        parts = {key.partition(".")[0] for key in state}
        kept = [part for part in (*_LATE_PARTS, "head") if part not in parts]
        own = {key: tensor for key, tensor in self.state_dict().items() if key.partition(".")[0] in kept}
        return own | dict(state)


def build_from(config: FromConfig, context: Any) -> MaskedRecogniser:
    trunk = build_trunk(config.trunk, context, "from")
    _check_maps(trunk.feature_info, config.trunk.use)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return assemble(
            trunk,
            pyramid_width=config.pyramid,
            reference_head=config.head == "reference",
            mask_shape=config.mask_shape,
            mask_on=config.mask_on,
            patterns=config.patterns,
            blocks=config.blocks,
            open_bias=config.open_bias,
            fill=config.fill,
        )


def assemble(
    trunk: Any,
    *,
    pyramid_width: int,
    reference_head: bool,
    mask_shape: str,
    mask_on: str,
    patterns: str,
    blocks: int,
    open_bias: float | None,
    fill: str = "zero",
    masked: bool = True,
    network: type[MaskedRecogniser] = MaskedRecogniser,
) -> Any:
    """A ``network`` of parts built for this trunk, initialised as published: Xavier-uniform weights, biases 0."""
    spec, dim, deepest = trunk.image_spec, trunk.embedding_dim, trunk.feature_info[-1]
    size = (spec.height // deepest.stride, spec.width // deepest.stride)
    places = size[0] * size[1]
    head = None
    if reference_head:
        strip_head(trunk)
        head = NormedLinear(features=deepest.channels * places, out=dim, bias=True)
    pyramid: nn.Module | None = None
    decoder: nn.Module | None = None
    predictor: nn.Module | None = None
    if masked:
        pyramid = FeaturePyramid(channels=[info.channels for info in trunk.feature_info[-3:]], width=pyramid_width)
        if mask_on == "embedding":
            decoder = EmbeddingMaskDecoder(width=pyramid_width, size=size, embedding_dim=dim)
            features = dim
        elif mask_shape == "2d":
            decoder = FlatMaskDecoder(width=pyramid_width, channels=deepest.channels)
            features = places
        else:
            decoder = MaskDecoder(width=pyramid_width, channels=deepest.channels)
            features = deepest.channels * places
        # A mask that begins open is the same everywhere: torch's eps would multiply its gradient by 316, twice.
        eps = 1e-5 if open_bias is None else 0.1
        if patterns == "classification":
            predictor = NormedLinear(features=features, out=pattern_count(blocks), bias=False, eps=eps)
        elif patterns == "regression":
            predictor = CornerPredictor(features=features, eps=eps)
    for part in (head, pyramid, decoder, predictor):
        if part is not None:
            part.apply(initialise)
    if decoder is not None and open_bias is not None:
        _silence(decoder)
    return network(
        trunk,
        head=head,
        pyramid=pyramid,
        decoder=decoder,
        gate=Gate(open_bias),
        predictor=predictor,
        mask_on_embedding=mask_on == "embedding",
        fill=MeanFill(channels=deepest.channels, size=size) if masked and fill == "mean" else None,
    )


def strip_head(trunk: nn.Module) -> None:
    """Replace what only ``forward_head`` runs by nothing: it would be saved, decayed and counted for no use."""
    used: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: used.add(module)) for module in trunk.modules()]
    spec: Any = trunk.image_spec
    training = trunk.training
    try:
        with torch.no_grad():
            trunk.eval().forward_features(torch.zeros(1, 3, spec.height, spec.width))  # type: ignore[operator]
    finally:
        trunk.train(training)
        for hook in hooks:
            hook.remove()
    for name, child in list(trunk.named_children()):
        if not any(module in used for module in child.modules()):
            setattr(trunk, name, nn.Identity())


def _check_maps(maps: Sequence[FeatureInfo], name: str) -> None:
    strides = [info.stride for info in maps[-3:]]
    if len(strides) < 3 or strides[1] != 2 * strides[0] or strides[2] != 2 * strides[1]:
        raise OccframeError(
            f"`from` needs three feature maps, each half the size of the one before; `{name}` has strides "
            f"{[info.stride for info in maps]}",
            remedy="choose another trunk",
        )


def initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _silence(decoder: nn.Module) -> None:
    """Make the decoder answer 0 everywhere: its last layer, be it a convolution or a batch norm, begins at 0."""
    last = [module for module in decoder.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm1d))][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
