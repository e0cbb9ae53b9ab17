"""The denoiser: trunk, parametrization and modulator as one function of (xt, t, y), and the features it offers on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genrep.backbones import Backbone, Hidden, ModulationTable
from genrep.layers import precise, wide
from genrep.modulators import Modulator
from genrep.parametrization import x0_from
from genrep.schedules import Schedule
from genrep.types import Denoise, Denoised, Features

MOST_PIXELS = 2**21
"""Of images times candidates, denoised together: of each pixel maps of the stem and the read-out are in memory, of the demo's model a few hundred MB."""


T_MIN, T_MAX = 1e-3, 1.0 - 1e-3
"""Noise times of training."""


@dataclass(frozen=True)
class NoisedPass:
    """A noised pass before modulation, for losses that want more than the prediction."""

    base: Float[Tensor, "b c h w"]
    """x0_hat without modulation."""
    features: Features
    pooled: Float[Tensor, "b d"]
    """The last tap, averaged over positions: what semantics are made of."""


def draw_times(u: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Noise times of the n draws of an image: logit-normal, one from each of n equal quantile ranges.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1 (location 0, scale 1); the strata are ours.
    """
    num = u.shape[1]
    quantile = (torch.arange(num, device=u.device) + u) / num
    normal = torch.special.ndtri(precise(quantile).clamp(1e-6, 1 - 1e-6))
    return torch.sigmoid(normal.to(u.dtype)).clamp(T_MIN, T_MAX)


def pool(features: Features) -> Float[Tensor, "b d"]:
    """The last tap, averaged over positions."""
    return features.taps[-1].mean((-2, -1))


class Denoiser(nn.Module):
    """x0_hat(xt, t, y), modulated by semantics: the image's own, another's, or none.

    Args:
        prediction: what the trunk's output means, one of `parametrization.PREDICTIONS`.
    """

    def __init__(self, trunk: Backbone, modulator: Modulator, *, schedule: Schedule, prediction: str) -> None:
        super().__init__()
        self.trunk, self.modulator = trunk, modulator
        self.schedule, self.prediction = schedule, prediction

    def noised_pass(self, xt: Tensor, t: Tensor, y: Tensor) -> NoisedPass:
        """Trunk and parametrization, without modulation."""
        return self.noised(self.trunk(xt, t, y), xt, t)

    def noised(self, hidden: Hidden, xt: Tensor, t: Tensor) -> NoisedPass:
        """What the trunk made of xt at t."""
        return NoisedPass(self._x0(wide(self.trunk.decode(hidden)), xt, t), hidden.features, pool(hidden.features))

    def condition(self, y: Float[Tensor, "b k"], sem: Float[Tensor, "b s"]) -> Float[Tensor, "b _"]:
        """Classes, and semantics (zeros: none) behind them where the trunk is told of those."""
        return torch.cat([y, sem.to(y.dtype)], 1) if self.modulator.num_told else y

    def modulate(self, noised: NoisedPass, xt: Tensor, t: Tensor, sem: Float[Tensor, "b s"]) -> Denoised:
        """The prediction under the given semantics."""
        with torch.autocast(xt.device.type, enabled=False):
            return self.modulator(wide(noised.base), wide(xt), self.schedule.logsnr(t), wide(sem))

    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        """The prediction under the semantics of the condition, or where it has none under the image's own, read off the same pass: what samplers use."""
        noised = self.noised_pass(xt, t, y)
        return self.modulate(noised, xt, t, self._semantics(noised, y))

    def semantics(self, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b s"]:
        """Of clean images."""
        return self.modulator.semantics(pool(self.clean_features(x0)))

    def _semantics(self, noised: NoisedPass, y: Tensor) -> Float[Tensor, "b s"]:
        own, told = self.modulator.semantics(noised.pooled), y[:, self.num_classes :]
        return torch.where(told.any(1, keepdim=True), told.to(own), own) if told.shape[1] else own

    def looped(self, times: Float[Tensor, " n"], y: Float[Tensor, "b _"], *, sem: Float[Tensor, "b s"] | None = None, likeness: float = 1.0) -> Denoise:
        """The denoiser for a sampler's loop: what its times and conditions do to the trunk is computed beforehand.

        Args:
            sem: semantics to denoise under, as far as `likeness` goes from 0, the image's own, to 1. The batch may be a multiple of theirs, as guidance
                makes it.
        """
        trunk = ModulationTable(self.trunk, times, y)

        def denoise(xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
            noised = self.noised(trunk(xt, t, y), xt, t)
            own = self._semantics(noised, y)
            return self.modulate(noised, xt, t, own if sem is None else torch.lerp(own, sem.repeat(len(xt) // len(sem), 1), likeness))

        return denoise

    def candidates(self, xt: Tensor, t: Tensor, candidates: Float[Tensor, "b m k"]) -> Float[Tensor, "b m c h w"]:
        """x0_hat for several conditions of each image, without semantics (they would leak the label); the prefix is shared.

        Without semantics the modulator's shift is the same for all candidates of an image, so differences between them are
        those of the base prediction. As many images take their pass together as `MOST_PIXELS` allow.
        """
        at_once = max(1, MOST_PIXELS // (candidates.shape[1] * xt[0, 0].numel()))
        parts = zip(xt.split(at_once), t.split(at_once), candidates.split(at_once), strict=True)
        return torch.cat([self._candidates(*part) for part in parts])

    def _candidates(self, xt: Tensor, t: Tensor, candidates: Float[Tensor, "b m k"]) -> Float[Tensor, "b m c h w"]:
        num = candidates.shape[1]
        found = wide(self.trunk.answers(self.trunk.prefix(xt, t), candidates)).flatten(0, 1)
        base = self._x0(found, xt.repeat_interleave(num, 0), t.repeat_interleave(num, 0)).unflatten(0, (len(xt), num))
        first = NoisedPass(base[:, 0], Features((), ()), pooled=base.new_empty(len(xt), 0))
        no_semantics = torch.zeros_like(self.modulator.semantics(xt.new_zeros(len(xt), self.trunk.spec.taps[-1])))
        shift = self.modulate(first, xt, t, no_semantics).x0_hat - base[:, 0]
        return base + shift[:, None]

    def clean_features(self, x0: Tensor) -> Features:
        """What the heads see: a noise-free pass that knows neither the label nor semantics (y = null)."""
        return self.trunk.clean_features(x0)

    def _x0(self, predicted: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        return x0_from(predicted, wide(xt), t, kind=self.prediction, schedule=self.schedule)

    @property
    def num_classes(self) -> int:
        """Classes of the condition."""
        return self.trunk.num_classes
