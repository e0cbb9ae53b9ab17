"""Noise schedules: xt = alpha(t) x0 + sigma(t) eps, with t = 0 clean and t = 1 noise, in two families."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def expand(value: Float[Tensor, " b"], like: Float[Tensor, "b ..."]) -> Tensor:
    """A number per sample, shaped to multiply `like`."""
    return value.reshape(-1, *([1] * (like.ndim - 1)))


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A path from data to noise. All functions take and return one number per sample, [b].

    Limits: alpha(0) = 1, sigma(0) = 0, alpha(1) = 0, sigma(1) = 1 in every schedule here, so x0 cannot be had from eps
    at t = 1, nor eps from x0 at t = 0; `logsnr` is clamped to +-`max_logsnr` there.
    """

    max_logsnr: float = 20.0
    """Largest size of the log-SNR, nats."""

    @abstractmethod
    def alpha(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Factor of the clean sample, falling from 1 to 0."""

    @abstractmethod
    def sigma(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Standard deviation of the noise, rising from 0 to 1."""

    @abstractmethod
    def rates(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """(d alpha / dt, d sigma / dt)."""

    @abstractmethod
    def t_of_logsnr(self, logsnr: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The time at which 2 ln(alpha / sigma) has this value, nats."""

    def logsnr(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """2 ln(alpha / sigma), nats, clamped to +-`max_logsnr`."""
        ratio = 2 * (self.alpha(t).clamp(min=1e-30).log() - self.sigma(t).clamp(min=1e-30).log())
        return ratio.clamp(-self.max_logsnr, self.max_logsnr)

    def noised(self, x0: Tensor, t: Float[Tensor, " b"], eps: Tensor) -> Tensor:
        """xt = alpha x0 + sigma eps."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps


@dataclass(frozen=True, kw_only=True)
class RectifiedFlow(Schedule):
    """Straight lines: alpha = 1 - t, sigma = t.

    Source: Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def t_of_logsnr(self, logsnr: Tensor) -> Tensor:
        return torch.sigmoid(-logsnr / 2)


@dataclass(frozen=True, kw_only=True)
class CosineVP(Schedule):
    """Variance preserving: alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. (17) without the offset; Salimans and Ho 2022, arXiv:2202.00512.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))  # the cosine, and exactly 0 at t = 1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -math.pi / 2 * self.sigma(t), math.pi / 2 * self.alpha(t)

    def t_of_logsnr(self, logsnr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-logsnr / 2)) * (2 / math.pi)


SCHEDULES: dict[str, type[Schedule]] = {"flow": RectifiedFlow, "cosine": CosineVP}
