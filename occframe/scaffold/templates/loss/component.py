"""Softmax over the cosines to one centre an identity. Put your margin in."""

import torch
from torch import nn
from torch.nn import functional as F

from occframe import OccframeError


class {{Class}}(nn.Module):
    """Fulfils ``occframe.types.LossTerm``."""

    #: Beside the embedding: identities, landmarks, mask, clean, teacher, or extras.KEY of the backbone.
    needs = frozenset({"identities"})

    def __init__(self, config, context):
        super().__init__()
        if context.num_identities is None or context.embedding_dim is None:
            raise OccframeError("`{{name}}` needs a training: it has a centre for every identity")
        self.scale = config.scale
        draw = torch.Generator().manual_seed(context.seed)
        self.centres = nn.Parameter(torch.randn(context.num_identities, context.embedding_dim, generator=draw))

    def forward(self, output, batch):
        """A scalar, the mean over the batch."""
        with torch.autocast(output.embedding.device.type, enabled=False):  # bfloat16 is too coarse for a softmax
            embedding = F.normalize(output.embedding.to(self.centres.dtype), eps=1e-6)
            cosines = F.linear(embedding, F.normalize(self.centres))
            return F.cross_entropy(self.scale * cosines, batch.identities)
