"""Denoisers in closed form: what a perfectly trained network would say of data whose distribution is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genrep.schedules import Schedule, expand
from genrep.types import Denoised


@dataclass(frozen=True)
class ClassGaussians:
    """x0 given class k is N(means[k], variances[k]), independent per dimension; means and variances are [k c h w].

    The null condition (zeros) means class 0.
    """

    means: Tensor
    variances: Tensor
    schedule: Schedule

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        label = y.argmax(1)
        mean, var = self.means[label], self.variances[label]
        alpha, sigma2 = expand(self.schedule.alpha(t), xt), expand(self.schedule.sigma(t), xt) ** 2
        x0_hat = (alpha * var * xt + sigma2 * mean) / (alpha**2 * var + sigma2)
        return Denoised(x0_hat, torch.zeros_like(t))

    def ode_solution(self, x1: Tensor, y: Tensor) -> Tensor:
        """Where the probability-flow ODE carries pure noise x1: each dimension is scaled and shifted to the data's distribution."""
        label = y.argmax(1)
        return self.means[label] + self.variances[label].sqrt() * x1

    def log_likelihoods(self, x0: Tensor) -> Tensor:
        """log p(x0 | k), [b k], nats."""
        error2 = (x0[:, None] - self.means) ** 2
        return -0.5 * (error2 / self.variances + (2 * math.pi * self.variances).log()).flatten(2).sum(2)

    def gaps(self, x0: Tensor, logsnr_min: float, logsnr_max: float) -> Tensor:
        """-1/2 Integral of E|eps - eps_hat|^2 over a finite range of logsnr, [b k], exactly.

        The integrand is snr (d^2 + snr var^2) / (1 + snr var)^2 per dimension, with d = x0 - mean.
        """
        d2, var = (x0[:, None] - self.means) ** 2, self.variances

        def integral(snr: float) -> Tensor:
            return (var - d2) / (var * (1 + snr * var)) + (1 + snr * var).log()

        return -0.5 * (integral(math.exp(logsnr_max)) - integral(math.exp(logsnr_min))).flatten(2).sum(2)

    def candidates(self, num_images: int) -> Tensor:
        """Every class as a candidate of every image, [b k k]."""
        return torch.eye(len(self.means), dtype=self.means.dtype).expand(num_images, -1, -1)
