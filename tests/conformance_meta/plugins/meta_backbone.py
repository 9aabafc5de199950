"""A good backbone, and one for each promise that breaks it."""

from __future__ import annotations

import threading
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from occframe import BackboneOutput, Config, FeatureInfo, ImageSpec, hookimpl


class NoOptions(Config):
    """Has none."""


class Good(nn.Module):
    image_spec = ImageSpec(height=16, width=12)
    feature_info = (FeatureInfo("map", 6, 2),)
    embedding_dim = 5
    columns = {"brightness": "float64"}  # noqa: RUF012

    def __init__(self, config, context):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
            self.head = nn.Linear(6 * 8 * 6, 5)

    def forward_features(self, images):
        return [self.trunk(images)]

    def forward_head(self, features):
        return self.head(features.flatten(1))

    def forward(self, images):
        maps = self.forward_features(images)
        mask = images.new_ones(len(images), 1, 8, 6)
        return BackboneOutput(self.forward_head(maps[-1]), maps, {"mask": mask})

    def describe(self, output):
        return {"brightness": output.features[0].mean(dim=(1, 2, 3)).double()}

    def embed_form(self):
        return deepcopy(self)


class IsAModule(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.eval()


class ImageSpecIsHonest(Good):
    image_spec = ImageSpec(height=20, width=12)


class NormalisesOf255(Good):
    image_spec = ImageSpec(height=16, width=12, mean=(127.5,) * 3, std=(127.5,) * 3)


class SeesNoBlue(Good):
    def forward(self, images):
        return super().forward(images * torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1))


class EmbeddingHasItsShape(Good):
    embedding_dim = 6


class OutputIsFinite(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, embedding=found.embedding / images.std(dim=(1, 2, 3))[:, None])


class EvalIsBatchIndependent(Good):
    def forward_head(self, features):
        found = super().forward_head(features)
        return found - found.mean(0) if len(found) > 1 else found


class EvalIsDeterministic(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, embedding=nn.functional.dropout(found.embedding, 0.5, training=True))


class EvalTrains(Good):
    def forward(self, images):
        self.head.weight.data *= 1.01
        found = super().forward(images)
        self.head.weight.data /= 1.02
        return found


class ImagesMatter(Good):
    def forward_head(self, features):
        return super().forward_head(features * 1e-9 + 1)


class FeatureMapsAreAsDeclared(Good):
    feature_info = (FeatureInfo("map", 6, 4),)


class SafetensorsRoundTrip(Good):
    """Half of it is not in the state_dict."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.scale = torch.rand(5) + 0.5

    def forward_head(self, features):
        return super().forward_head(features) * self.scale


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.lock = threading.Lock()


class GradientsReachEveryWeight(Good):
    def forward_head(self, features):
        return super().forward_head(features.detach())


class SplitIsTheNetwork(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, embedding=found.embedding + 1)


class ExtrasHoldTheMask(Good):
    def forward(self, images):
        return replace(super().forward(images), extras={})


class FormsAgree(Good):
    def embed_form(self):
        form = deepcopy(self)
        form.head.bias.data += 1
        return form


class DescribesItsColumns(Good):
    def describe(self, output):
        return {"brightness": output.features[0].mean().double()}


class EmbeddingSurvivesAutocast(Good):
    def forward_head(self, features):
        found = super().forward_head(features)
        return found if found.dtype == torch.float32 else found * float("inf")


class TheSeedDecidesTheWeights(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        nn.init.normal_(self.head.weight)


class ExportIsEqual(Good):
    def forward_head(self, features):
        if features.flatten()[0].item() > 1e9:  # a value decides the way: nothing that export can follow
            return super().forward_head(features) * 2
        return super().forward_head(features)


class GpuEqualsCpu(Good):
    def forward_head(self, features):
        found = super().forward_head(features)
        return found.flip(1) if found.is_cuda else found


BROKEN = {
    "is_a_module": IsAModule,
    "image_spec_is_honest": ImageSpecIsHonest,
    "image_spec_is_honest-255": NormalisesOf255,
    "image_spec_is_honest-blue": SeesNoBlue,
    "embedding_has_its_shape": EmbeddingHasItsShape,
    "output_is_finite": OutputIsFinite,
    "eval_is_batch_independent": EvalIsBatchIndependent,
    "eval_is_deterministic": EvalIsDeterministic,
    "eval_is_deterministic-trains": EvalTrains,
    "images_matter": ImagesMatter,
    "feature_maps_are_as_declared": FeatureMapsAreAsDeclared,
    "safetensors_round_trip": SafetensorsRoundTrip,
    "is_picklable": IsPicklable,
    "gradients_reach_every_weight": GradientsReachEveryWeight,
    "split_is_the_network": SplitIsTheNetwork,
    "extras_hold_the_mask": ExtrasHoldTheMask,
    "forms_agree": FormsAgree,
    "describes_its_columns": DescribesItsColumns,
    "embedding_survives_autocast": EmbeddingSurvivesAutocast,
    "the_seed_decides_the_weights": TheSeedDecidesTheWeights,
    "export_is_equal": ExportIsEqual,
    "gpu_equals_cpu": GpuEqualsCpu,
}


@hookimpl
def occframe_register_backbones(register):
    caps = {"grad", "split", "mask_output", "export", "gpu"}
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="one convolution", caps=caps)
