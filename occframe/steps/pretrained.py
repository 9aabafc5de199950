"""Step ``pretrained``: weights that somebody else trained become a model of this run."""

from __future__ import annotations

from pydantic import Field

from occframe.component import BackboneBlock, BuildContext, FileRef
from occframe.errors import OccframeError
from occframe.step import StepConfig, StepContext, StepOutcome


class PretrainedConfig(StepConfig):
    produces = "model"

    backbone: BackboneBlock = Field(description="the network the weights were trained in")
    weights: FileRef | None = Field(
        None,
        min_length=1,
        description="a safetensors or torch checkpoint: a path, any fsspec URL, or registry:NAME; none: the backbone "
        "brings its own, as `onnx` does",
    )


class PretrainedStep:
    def run(self, context: StepContext) -> StepOutcome:
        import torch

        import occframe_registry
        from occframe.models import save_model
        from occframe.weights import load_weights

        config: PretrainedConfig = context.config
        backbone = context.build.build(config.backbone)
        if config.weights is not None:
            load_weights(backbone, config.weights)
        elif next(backbone.parameters(), None) is not None:
            raise OccframeError(
                f"`{config.backbone.use}` would have random weights", remedy="name a checkpoint with `weights`"
            )
        if config.weights and config.weights.startswith("registry:"):
            entry = occframe_registry.weights()[config.weights.removeprefix("registry:")]
            context.note(f"weights {entry.name}, licence: {entry.licence}; {entry.terms}")
        spec = backbone.image_spec
        with torch.inference_mode():
            # A NaN among the weights shows here, not in a gallery of a million embeddings.
            probe = torch.zeros(1, 3, spec.height, spec.width, device=context.device)
            embedding = backbone.to(context.device).eval()(probe).embedding
        if not bool(torch.isfinite(embedding).all()):
            raise OccframeError(
                f"with {config.weights or 'its weights'}, `{config.backbone.use}` gives embeddings that are not finite",
                remedy="fetch the weights again, or check that they were made for this backbone",
            )
        meta = save_model(context.url, backbone, config.backbone, extra={"weights": config.weights})
        return StepOutcome(outputs={"": meta})


def build(config: PretrainedConfig, context: BuildContext) -> PretrainedStep:
    return PretrainedStep()
