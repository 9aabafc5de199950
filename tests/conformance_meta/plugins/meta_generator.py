"""A good generator, and one for each promise that breaks it."""

from __future__ import annotations

import threading
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from occframe import Config, GeneratorOutput, ImageSpec, hookimpl


class NoOptions(Config):
    """Has none."""


class Critic(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 4, 2, 1)


class Good(nn.Module):
    """Draws anew what a mask of its own covers."""

    image_spec = ImageSpec(height=24, width=24)

    def __init__(self, config, context):
        super().__init__()
        self.drawn = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1))

    def forward(self, images):
        drawn = self.drawn(images)
        alpha = drawn[:, 3:].sigmoid()
        alpha = torch.where(alpha < 0.4, torch.zeros_like(alpha), alpha)
        return GeneratorOutput(images + alpha * (drawn[:, :3].tanh() - images), alpha)

    def discriminator(self):
        return Critic()

    def generate_form(self):
        return deepcopy(self)


class IsAModule(Good):
    image_spec = ImageSpec(height=24, width=24, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class ImagesKeepSizeAndRange(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, images=found.images * 2)


class OnlyItsOwnSize(Good):
    def forward(self, images):
        return super().forward(nn.functional.interpolate(images, (24, 24)))


class AlphaSaysWhatIsNew(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, alpha=found.alpha * (found.alpha > 0.6))


class EvalIsBatchIndependent(Good):
    def forward(self, images):
        return super().forward(images - images.mean(0) * (len(images) > 1))


class EvalIsDeterministic(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, images=(found.images + 0.01 * torch.randn_like(images)).clamp(-1, 1))


class InputIsUntouched(Good):
    def forward(self, images):
        found = super().forward(images)
        images.copy_(found.images)
        return found


class SafetensorsRoundTrip(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.shift = torch.rand(1, 3, 1, 1)

    def forward(self, images):
        found = super().forward(images)
        return replace(found, images=(found.images + self.shift).clamp(-1, 1))


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.lock = threading.Lock()


class DiscriminatorScoresImages(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.critic = [Critic()]

    def discriminator(self):
        return self.critic[0]


class GradientsReachEveryWeight(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.unused = nn.Linear(2, 2)


class GenerateFormAgrees(Good):
    def generate_form(self):
        form = deepcopy(self)
        form.drawn[0].weight.data *= 2
        return form


class GpuEqualsCpu(Good):
    def forward(self, images):
        found = super().forward(images)
        return replace(found, images=found.images * 0.5) if images.is_cuda else found


BROKEN = {
    "is_a_module": IsAModule,
    "images_keep_size_and_range": ImagesKeepSizeAndRange,
    "images_keep_size_and_range-own": OnlyItsOwnSize,
    "alpha_says_what_is_new": AlphaSaysWhatIsNew,
    "eval_is_batch_independent": EvalIsBatchIndependent,
    "eval_is_deterministic": EvalIsDeterministic,
    "input_is_untouched": InputIsUntouched,
    "safetensors_round_trip": SafetensorsRoundTrip,
    "is_picklable": IsPicklable,
    "discriminator_scores_images": DiscriminatorScoresImages,
    "gradients_reach_every_weight": GradientsReachEveryWeight,
    "generate_form_agrees": GenerateFormAgrees,
    "gpu_equals_cpu": GpuEqualsCpu,
}


@hookimpl
def occframe_register_generators(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="two convolutions", caps={"grad", "gpu"})
