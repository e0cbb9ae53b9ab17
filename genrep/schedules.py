"""Noise schedules: xt = alpha(t) x0 + sigma(t) eps, with t = 0 clean and t = 1 noise, in three families."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from genrep.layers import precise


def expand(value: Float[Tensor, " b"], like: Float[Tensor, "b ..."]) -> Tensor:
    """A number per sample, shaped to multiply `like`."""
    return value.reshape(-1, *([1] * (like.ndim - 1)))


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A path from data to noise. All functions take and return one number per sample, [b].

    Limits: alpha(0) = 1, sigma(0) = 0, so eps cannot be had from x0 there; alpha(1) = 0, sigma(1) = 1, so x0 cannot be had from eps there, but of
    `LinearBetas`. `logsnr` is clamped to +-`max_logsnr`.
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


@dataclass(frozen=True, kw_only=True)
class LinearBetas(Schedule):
    """Variance preserving, in steps whose noise grows evenly, as most published weights have it.

        ln alpha(k / N)^2 = sum_(i < k) ln(1 - beta_i) = (h(e_0) - h(e_k)) / d,   h(e) = (1 - e) ln(1 - e) + e,   e_k = beta_0 + d (k - 1 / 2)

    d being how much beta grows in a step: the sum as an integral, which is right to eight digits and says what lies between the times, too. Before the first of
    them, of which such weights know nothing, ln alpha goes with t^2, so that sigma begins in proportion to t as in the other schedules. At t = 1 some of the
    image is left, alpha = .006, so that a network may predict eps.

    Args:
        num_times: N, the number of steps.
        first, last: beta_0 and beta_(N - 1), between which the others lie evenly.
    Raises:
        ValueError: fewer than two times, or betas that do not grow inside (0, 1).
    Source: Ho et al. 2020, arXiv:2006.11239, section 4.
    """

    num_times: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self) -> None:
        if self.num_times < 2 or not 0 < self.first < self.last < 1:
            raise ValueError(f"`num_times` must be at least 2, and 0 < `first` < `last` < 1; found {self.num_times}, {self.first}, {self.last}.")

    @property
    def _growth(self) -> float:
        return (self.last - self.first) / (self.num_times - 1)

    @property
    def _start(self) -> float:
        """ln alpha at the first time."""
        return math.log1p(-self.first) / 2

    def alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(precise(t)).exp().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha(precise(t)))).sqrt().to(t.dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        time = precise(t)
        k = self.num_times * time
        slope = self.num_times * torch.where(k < 1, 2 * self._start * k, torch.log1p(-self._beta(k)) / 2)
        alpha, sigma, at_once = self.alpha(time), self.sigma(time), self.num_times * math.sqrt(-2 * self._start)
        return (alpha * slope).to(t.dtype), torch.where(sigma == 0, at_once, -(alpha**2) * slope / sigma).to(t.dtype)

    def t_of_logsnr(self, logsnr: Tensor) -> Tensor:
        """As of every schedule; 1 of what is below the last time's."""
        log_alpha = F.logsigmoid(precise(logsnr)) / 2
        wanted = _h(self._beta(torch.zeros_like(log_alpha))) - 2 * self._growth * log_alpha
        beta = (2 * wanted).sqrt().clamp(max=self.last)
        for _ in range(NEWTON_STEPS):
            beta = (beta - (_h(beta) - wanted) / -torch.log1p(-beta)).clamp(max=self.last + self._growth)
        k = (beta - self.first) / self._growth + 0.5
        return (torch.where(k < 1, (log_alpha / self._start).sqrt(), k) / self.num_times).clamp(max=1).to(logsnr.dtype)

    def _beta(self, k: Tensor) -> Tensor:
        return self.first + self._growth * (k - 0.5)

    def _log_alpha(self, t: Tensor) -> Tensor:
        k = self.num_times * t
        return torch.where(k < 1, self._start * k**2, (_h(self._beta(torch.zeros_like(k))) - _h(self._beta(k))) / (2 * self._growth))


NEWTON_STEPS = 5


def _h(beta: Tensor) -> Tensor:
    """- ln(1 - beta), integrated from 0."""
    return (1 - beta) * torch.log1p(-beta) + beta


SCHEDULES: dict[str, type[Schedule]] = {"flow": RectifiedFlow, "cosine": CosineVP, "linear": LinearBetas}
