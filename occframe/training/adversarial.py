"""Adversarial training of an image-to-image network: the networks, and one step of them.

The order is that of US 11403876 B2: G(X1); D scores G(X1) and X2 -> discriminative loss -> update D; the updated D
scores G(X1) -> generative loss, plus feature error and pixel error -> update G. F is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from occframe.distributed import ALONE, Ranks, agree, mean_gradients, told_alike
from occframe.errors import OccframeError
from occframe.generators import from_generator_output, to_generator_input
from occframe.precision import ResolvedPrecision, autocast
from occframe.training.adversarial_batches import GeneratorBatch, Wearers
from occframe.training.adversarial_configs import AdversarialError, FeatureError, IdentityError, PixelError
from occframe.training.adversarial_losses import discriminative_loss, feature_error, generative_loss, pixel_error
from occframe.training.faults import first_bad_weight
from occframe.training.frozen_features import shaken
from occframe.training.optimisers import Adam
from occframe.types import ImageSpec

Features = Callable[[Tensor], Tensor]


class Adversaries(nn.Module):
    """generator: what learns. discriminator: its judge. average: a running mean of the generator, for inference."""

    def __init__(self, generator: Any, *, decay: float) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = generator.discriminator()
        self.average = deepcopy(generator).requires_grad_(False).eval()
        self.decay = decay
        self.image_spec: ImageSpec = generator.image_spec
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.average.eval()
        return self

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the generator after ``step`` steps; faster at first, when its past is worthless."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mean, now = self.average.state_dict(), self.generator.state_dict()
        floating = [name for name, value in mean.items() if value.is_floating_point()]
        torch._foreach_lerp_([mean[name] for name in floating], [now[name] for name in floating], 1 - decay)
        for name in mean.keys() - set(floating):
            mean[name].copy_(now[name])


class AdversarialStep:
    """One update of the discriminator, then one of the generator. ``columns`` names the figures a step returns.

    features: of the frozen recogniser, RGB images 0..1 -> [B, D]; None where neither the feature error has a weight nor
    batches have wearers. wearers: weight of these. together: the processes that take each step at once, with a part of
    the batch each; shares of a batch are taken of every part.
    """

    columns = (
        "loss.discriminative",
        "loss.generative",
        "loss.feature",
        "loss.pixel",
        "loss.identity",
        "loss.wearers",
        "loss",
        "score.real",
        "score.made",
        "variety",
    )
    skips_overflow = False

    def __init__(
        self,
        networks: Adversaries,
        features: Features | None,
        *,
        optimiser: Adam,
        adversarial: AdversarialError,
        feature: FeatureError,
        pixel: PixelError,
        identity: IdentityError,
        wearers: float = 0.0,
        precision: ResolvedPrecision,
        clip_norm: float | None = None,
        together: Ranks = ALONE,
    ) -> None:
        self.networks = networks
        self.features = features
        self.adversarial, self.feature, self.pixel, self.identity = adversarial, feature, pixel, identity
        self.wearers = wearers
        self.precision = precision
        self.clip_norm = clip_norm
        self.steps = 0
        self._together = together
        if together.several:
            agree(networks)
        self._optimisers = {
            name: torch.optim.Adam(
                getattr(networks, name).parameters(),
                lr=optimiser.lr,
                betas=(optimiser.beta1, optimiser.beta2),
                fused=True,
            )
            for name in ("generator", "discriminator")
        }

    def __call__(self, batch: GeneratorBatch, rate: float) -> list[Tensor]:
        """batch: on the networks' device. rate: learning rate of both. Returns detached scalars, one a column."""
        spec = self.networks.image_spec
        given, real = to_generator_input(batch.images, spec), to_generator_input(batch.real, spec)
        reference = given if batch.reference is batch.images else to_generator_input(batch.reference, spec)
        passed = real[: max(1, round(self.identity.share * len(real)))] if self.identity.weight else real[:0]
        worn = given[:0] if batch.wearers is None else to_generator_input(batch.wearers.images, spec)
        # In one pass: batch norm then learns the statistics of faces with and without.
        together = [given, passed, worn]
        made, kept, freed = torch.split(self._generate(torch.cat(together)), [len(part) for part in together])

        nothing = given.new_zeros(())
        judged, scores = nothing, [nothing, nothing]
        if self.adversarial.weight:
            judged, scores = self._update_discriminator(real, made.detach(), rate)
        with record_function("forward"):
            errors = self._generator_errors(batch, made, reference, kept, passed)
            errors.append((self.wearers, self._wearers_error(batch.wearers, freed, worn)))
            total = torch.stack([weight * error for weight, error in errors]).sum()
        self._update("generator", total, rate)
        self.steps += 1
        self.networks.follow(self.steps)
        with torch.no_grad():
            coarse = slice(None, None, 4)  # every fourth pixel tells as much
            spread = [images[:, :, coarse, coarse].std(dim=0).mean() for images in (made, given)]
            variety = spread[0] / spread[1].clamp(min=1e-6)
        told = [figure.detach() for figure in (judged, *(error for _, error in errors), total, *scores, variety)]
        return told_alike(told, self._together)

    def _generate(self, images: Tensor) -> Tensor:
        with record_function("forward"), autocast(self.precision, images.device.type):
            made: Tensor = self.networks.generator(images.contiguous(memory_format=torch.channels_last)).images
        return made.float()

    def _score(self, images: Tensor) -> Tensor:
        with record_function("forward"), autocast(self.precision, images.device.type):
            scores: Tensor = self.networks.discriminator(images.contiguous(memory_format=torch.channels_last))
        return scores.float()

    def _update_discriminator(self, real: Tensor, made: Tensor, rate: float) -> tuple[Tensor, list[Tensor]]:
        on_real, on_made = torch.split(self._score(torch.cat([real, made])), [len(real), len(made)])
        loss = discriminative_loss(on_real, on_made, self.adversarial.loss)
        self._update("discriminator", loss, rate)
        return loss, [on_real.mean(), on_made.mean()]

    def _generator_errors(
        self, batch: GeneratorBatch, made: Tensor, reference: Tensor, kept: Tensor, passed: Tensor
    ) -> list[tuple[float, Tensor]]:
        """(weight, error) of the generative, feature, pixel and identity terms; those without a weight are 0."""
        nothing = made.new_zeros(())
        generative = feature = unchanged = nothing
        if self.adversarial.weight:
            self.networks.discriminator.requires_grad_(False)  # spares the gradients of weights that do not move now
            generative = generative_loss(self._score(made), self.adversarial.loss)
            self.networks.discriminator.requires_grad_(True)
        if self.feature.weight:
            assert self.features is not None
            # Batches are in random order already: the first ones are as good as any.
            seen = max(1, round(self.feature.share * len(made)))
            both = from_generator_output(torch.cat([reference[:seen], made[:seen]]), self.networks.image_spec)
            both = shaken(both, self.feature.shake, groups=2)
            with torch.no_grad():
                wanted = self.features(both[:seen])
            feature = feature_error(self.features(both[seen:]), wanted)
        if len(passed):
            unchanged = pixel_error(kept, passed)
        return [
            (self.adversarial.weight, generative),
            (self.feature.weight, feature),
            (self.pixel.weight, pixel_error(made, reference, batch.mask, self.pixel.inside)),
            (self.identity.weight, unchanged),
        ]

    def _wearers_error(self, wearers: Wearers | None, freed: Tensor, worn: Tensor) -> Tensor:
        """How far removal is from what the recogniser sees without, and what it changed elsewhere, as unpaired."""
        if wearers is None:
            return freed.new_zeros(())
        assert self.features is not None
        looked_at = shaken(from_generator_output(freed, self.networks.image_spec), self.feature.shake)
        elsewhere = pixel_error(freed, worn, wearers.mask, inside=0)
        return feature_error(self.features(looked_at), wearers.features) + elsewhere

    def _update(self, name: str, loss: Tensor, rate: float) -> None:
        optimiser = self._optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = rate
        with record_function("backward"):
            torch.autograd.backward(loss)
        parameters = list(getattr(self.networks, name).parameters())
        with record_function("optimiser"):
            if self._together.several:
                mean_gradients(parameters)
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def bad_weight(self) -> str | None:
        """The first weight that is not finite, by name."""
        return first_bad_weight(self.networks)

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.steps = state["steps"]


#: A healthy remover's pictures differ from one another about as much as the faces it is given.
LEAST_VARIETY = 0.1
#: A discriminator that knows nothing has a loss of 0.25 (least squares) or 0.69 (cross-entropy).
MOST_DISCRIMINATIVE = 5.0


def stop_on_collapse(figures: Mapping[str, Any], total_steps: int) -> None:
    """Raise OccframeError once the generator gives every face the same picture, or the discriminator ran away.

    figures: means over a window of steps. The first tenth of the training is let pass: an untrained network is grey.
    """
    if "variety" not in figures or figures["step"] <= total_steps / 10:
        return
    scores = f"it scores real faces {figures['score.real']:.3g}, made ones {figures['score.made']:.3g}"
    if figures["loss.discriminative"] > MOST_DISCRIMINATIVE:
        raise OccframeError(
            f"the discriminator ran away: by step {figures['step']} its loss is {figures['loss.discriminative']:.3g}, "
            f"one that knows nothing has less than 0.7; {scores}",
            remedy="give it spectral_norm: true, or lower optimiser.lr; to go on from an earlier generator see `start`",
        )
    if figures["variety"] < LEAST_VARIETY:
        raise OccframeError(
            f"the generator collapsed: by step {figures['step']} its pictures vary {figures['variety']:.3f} times as "
            f"much as the faces it is given (a healthy one: about 1); the discriminator: {scores}",
            remedy="raise pixel.weight and identity.weight, lower adversarial.weight or optimiser.lr, or give the "
            "discriminator spectral_norm: true",
        )
