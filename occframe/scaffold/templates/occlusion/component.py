"""Covers a band across every face."""

import torch

from occframe import Occluded
from occframe.random import uniform


class {{Class}}:
    """Fulfils ``occframe.types.OcclusionGenerator``: ``sample`` draws, ``apply`` paints."""

    def __init__(self, config, context):
        self.severity, self.grey = config.severity, config.grey

    def sample(self, batch, seeds):
        """One draw an image, from its seed alone: neither batch size nor device may change it."""
        return {"top": uniform(seeds, 0, 1)[:, 0].to(batch.images.device)}

    def apply(self, images, params):
        """images: [B, 3, H, W] uint8 0..255 or float 0..1, not to be changed."""
        height = images.shape[2]
        tall = round(self.severity * height)
        top = (params["top"] * (height - tall + 1)).long()[:, None]
        rows = torch.arange(height, device=images.device)
        covered = (rows >= top) & (rows < top + tall)
        mask = covered[:, None, :, None].expand(-1, 1, -1, images.shape[3]).float()
        grey = self.grey if images.dtype == torch.uint8 else self.grey / 255
        return Occluded(torch.where(mask > 0, torch.full_like(images, grey), images), mask)
