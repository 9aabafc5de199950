"""A good occlusion generator, and one for each promise that breaks it."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field

from occframe import Config, Occluded, hookimpl
from occframe.random import uniform


class BlockConfig(Config):
    severity: float = Field(0.5, ge=0, le=1, description="share of height and width that is covered")


class Good:
    """A grey block, placed by the seed."""

    def __init__(self, config, context):
        self.severity = config.severity

    def sample(self, batch, seeds):
        return {"place": uniform(seeds, 0, 2).to(batch.images.device)}

    def mask(self, images, params):
        height, width = images.shape[2:]
        tall, wide = round(self.severity * height), round(self.severity * width)
        top = (params["place"][:, 0] * (height - tall + 1)).long()[:, None]
        left = (params["place"][:, 1] * (width - wide + 1)).long()[:, None]
        rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
        down = (rows >= top) & (rows < top + tall)
        across = (columns >= left) & (columns < left + wide)
        return (down[:, None, :, None] & across[:, None, None, :]).float()

    def grey(self, images):
        return torch.full_like(images, 127 if images.dtype == torch.uint8 else 127 / 255)

    def apply(self, images, params):
        mask = self.mask(images, params)
        return Occluded(torch.where(mask > 0, self.grey(images), images), mask, {"block": mask})

    def apply_(self, images, params):
        found = self.apply(images, params)
        images.copy_(found.images)
        return replace(found, images=images)


class KeepsShapeAndDtype(Good):
    def apply(self, images, params):
        found = super().apply(images, params)
        return replace(found, images=found.images.float())


class MaskIsAlpha(Good):
    def apply(self, images, params):
        found = super().apply(images, params)
        return replace(found, parts={"block": found.mask * 2})


class FloatImagesStayInRange(Good):
    def grey(self, images):
        return torch.full_like(images, 127)


class ChangedPixelsHaveAlpha(Good):
    def apply(self, images, params):
        found = super().apply(images, params)
        mask = found.mask.clone()
        mask[:, :, ::2] = 0
        return replace(found, mask=mask)


class OccludesSomething(Good):
    def mask(self, images, params):
        return super().mask(images, params) * 0


class InputIsUntouched(Good):
    def apply(self, images, params):
        found = super().apply(images, params)
        images.copy_(found.images)
        return found


class ASeedDecidesEverything(Good):
    def sample(self, batch, seeds):
        return {"place": torch.rand(len(seeds), 2)}


class BatchSplitChangesNothing(Good):
    def sample(self, batch, seeds):
        return {"place": uniform(seeds[:1].expand_as(seeds), 0, 2)}


class Severity0IsIdentity(Good):
    def __init__(self, config, context):
        self.severity = max(config.severity, 0.2)


class WorksWithoutLandmarks(Good):
    def sample(self, batch, seeds):
        return super().sample(batch, seeds + batch.landmarks.long().sum() * 0)


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.colour = lambda: 127


class InPlaceAgrees(Good):
    def apply_(self, images, params):
        return replace(super().apply_(images, params), images=images.fill_(0))


class FloatAndUint8Agree(Good):
    def grey(self, images):
        return torch.full_like(images, 127 if images.dtype == torch.uint8 else 0.9)


class LeavesGlobalRandomState(Good):
    def sample(self, batch, seeds):
        torch.rand(1)
        return super().sample(batch, seeds)


class GpuEqualsCpu(Good):
    def mask(self, images, params):
        found = super().mask(images, params)
        return found.roll(1, 3) if images.is_cuda else found


BROKEN = {
    "keeps_shape_and_dtype": KeepsShapeAndDtype,
    "mask_is_alpha": MaskIsAlpha,
    "float_images_stay_in_range": FloatImagesStayInRange,
    "changed_pixels_have_alpha": ChangedPixelsHaveAlpha,
    "occludes_something": OccludesSomething,
    "input_is_untouched": InputIsUntouched,
    "a_seed_decides_everything": ASeedDecidesEverything,
    "batch_split_changes_nothing": BatchSplitChangesNothing,
    "severity_0_is_identity": Severity0IsIdentity,
    "works_without_landmarks": WorksWithoutLandmarks,
    "is_picklable": IsPicklable,
    "in_place_agrees": InPlaceAgrees,
    "float_and_uint8_agree": FloatAndUint8Agree,
    "leaves_global_random_state": LeavesGlobalRandomState,
    "gpu_equals_cpu": GpuEqualsCpu,
}


@hookimpl
def occframe_register_occlusions(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=BlockConfig, summary="a grey block", caps={"gpu"})
