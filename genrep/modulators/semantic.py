"""Semantic modulation of the denoising mean and standard deviation."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import wide
from genrep.modulators.base import Modulator
from genrep.modulators.prior import SemanticPrior
from genrep.processes import total
from genrep.randomness import SampleGenerator
from genrep.types import Denoised

NUM_SEMANTICS = 64
"""Length of sem."""

NUM_BASES = 8
LOGSNR_RANGE = (-8.0, 8.0)
MAX_LOG_STD = 0.7

MOMENTUM = 0.998
"""Of the running mean and scale of pooled features, once there were so many updates."""
SMALLEST_SCALE = 1e-4


def bases(logsnr: Float[Tensor, " b"]) -> Float[Tensor, "b j"]:
    """phi_j(logsnr): eight smooth bumps that sum to one, evenly spaced over `LOGSNR_RANGE`."""
    low, high = LOGSNR_RANGE
    width = (high - low) / (NUM_BASES - 1)
    away = (wide(logsnr)[:, None] - low) / width - torch.arange(NUM_BASES, device=logsnr.device)
    return torch.softmax(-away.square(), dim=1)


class SemanticModulation(Modulator):
    """Shifts x0_hat by a linear map of (xt token, sem) and scales std by a bounded function of sem.

        x0_hat = x0_hat_base + r W_t concat(xt token, sem),   W_t = sum_j phi_j(logsnr) W_j,   r^2 = sigma^2 / (alpha^2 + sigma^2)
        std    = std_base * exp(c tanh f(sem, phi))

    In the reverse kernel that shifts mu by alpha_s var_ts / sigma_t^2 times the shift of x0_hat (paper, equations 6-9).

    Source: GenRep, section "semantic-driven denoising", equations (6)-(9).
    Deviates: sem is one vector per image, not a map (a map at token resolution turns denoising into copying); the shift is
        proportional to r, so that it is bounded in u = d xt / dt and vanishes on clean input; f reads sem without gradient and also sees phi, since how far
        the best spread is from the base depends on the noise level; std is an exponential, so that it stays positive.

    """

    def __init__(self, *, width: int, patch: int, channels: int, num_classes: int) -> None:
        super().__init__(width=width, patch=patch, channels=channels, num_classes=num_classes)
        self.patch = patch
        self.embed = nn.Linear(width, NUM_SEMANTICS)
        token = channels * patch**2
        self.mean = nn.Parameter(torch.zeros(NUM_BASES, token, token + NUM_SEMANTICS))
        self.spread_in = nn.Linear(NUM_SEMANTICS + NUM_BASES, NUM_SEMANTICS)
        self.spread_out = nn.Linear(NUM_SEMANTICS, 1)
        nn.init.zeros_(self.spread_out.weight)
        nn.init.zeros_(self.spread_out.bias)

    def semantics(self, pooled: Tensor) -> Tensor:
        embedded = wide(self.embed(pooled))
        return F.layer_norm(embedded, embedded.shape[-1:])

    def forward(self, x0_hat: Tensor, xt: Tensor, logsnr: Tensor, sem: Tensor) -> Denoised:
        phi = bases(logsnr).to(sem.dtype)
        return Denoised(x0_hat + self.shift(xt, logsnr, phi, sem), self.log_std_scale(phi, sem))

    def shift(self, xt: Tensor, logsnr: Tensor, phi: Float[Tensor, "b j"], sem: Float[Tensor, "b s"]) -> Float[Tensor, "b c h w"]:
        """Of x0_hat."""
        noise_share = torch.sigmoid(-logsnr).sqrt().to(phi.dtype)
        tokens = F.pixel_unshuffle(xt, self.patch).flatten(2).transpose(1, 2)
        weight = noise_share[:, None, None] * (phi @ self.mean.flatten(1)).unflatten(1, self.mean.shape[1:])
        of_token, of_sem = weight.split([tokens.shape[-1], sem.shape[-1]], dim=-1)
        shift = torch.baddbmm((of_sem @ sem[..., None]).mT, tokens, of_token.mT)
        grid = (xt.shape[-2] // self.patch, xt.shape[-1] // self.patch)
        return F.pixel_shuffle(shift.transpose(1, 2).unflatten(2, grid), self.patch)

    def log_std_scale(self, phi: Float[Tensor, "b j"], sem: Float[Tensor, "b s"]) -> Float[Tensor, " b"]:
        """Of the reverse kernel."""
        spread = self.spread_out(F.silu(self.spread_in(torch.cat([sem.detach(), phi], dim=1))))
        return MAX_LOG_STD * torch.tanh(spread.squeeze(1))


class MeanModulation(SemanticModulation):
    """The shift alone: one half of an ablation."""

    def log_std_scale(self, phi: Tensor, sem: Tensor) -> Tensor:
        return phi.new_zeros(len(phi))


class SpreadModulation(SemanticModulation):
    """The spread alone: the other half."""

    def shift(self, xt: Tensor, logsnr: Tensor, phi: Tensor, sem: Tensor) -> Tensor:
        return torch.zeros_like(xt)


class DrawnSemantics(SemanticModulation):
    """`SemanticModulation` whose semantics the trunk is told, too, as part of the condition; samples draw theirs from p(sem | classes).

    So an image is made in two steps, what it shows and then how it looks, the first of which perception has learnt. Pooled features are standardised by
    running means before they are embedded: what they have in common says nothing of an image.

    Source: representation-conditioned generation, Li et al. 2024, arXiv:2312.03701; here the representation is learnt in the same weights.
    Deviates: the paper lets xt stand in for the clean image's semantics when it samples; but a pass cannot tell itself more than it knows.
    """

    centre: Tensor
    scale: Tensor
    updates: Tensor
    num_told: ClassVar[int] = NUM_SEMANTICS

    def __init__(self, *, width: int, patch: int, channels: int, num_classes: int) -> None:
        super().__init__(width=width, patch=patch, channels=channels, num_classes=num_classes)
        self.prior = SemanticPrior(NUM_SEMANTICS, num_classes)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("updates", torch.zeros(()))
        self._noted: Tensor | None = None

    def semantics(self, pooled: Tensor) -> Tensor:
        return super().semantics((wide(pooled) - self.centre) / self.scale)

    @torch.no_grad()
    def observe(self, pooled: Tensor) -> None:
        found = torch.stack([pooled, pooled.square(), torch.ones_like(pooled)]).to(self.centre).sum(1)
        self._noted = found if self._noted is None else self._noted + found

    @torch.no_grad()
    def settle(self) -> None:
        if self._noted is None:
            return
        noted = total(self._noted)
        self.updates += 1
        step = (1 / self.updates).clamp(min=1 - MOMENTUM)
        moments = torch.stack([self.centre, self.scale.square() + self.centre.square()]).lerp(noted[:2] / noted[2], step)
        self.centre.copy_(moments[0])
        self.scale.copy_((moments[1] - moments[0].square()).clamp(min=SMALLEST_SCALE**2).sqrt())
        self._noted = None

    def draw(self, y: Tensor, generator: SampleGenerator) -> Tensor:
        return self.prior.draw(y, generator)
