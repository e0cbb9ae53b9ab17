"""What a noised sample says of the clean one: a Gaussian around the denoiser's answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.schedules import Schedule, expand
from genrep.types import DenoiseCandidates

FLOOR = 1e-3
"""Least variance along an axis, in mean variances: a network's Jacobian is not exactly a covariance."""


@dataclass(frozen=True)
class Belief:
    """N(mean, covariance) of each of n states."""

    mean: Float[Tensor, "n c h w"]
    var: Float[Tensor, "n _"]
    """Variance along each axis, or along all of them, > 0."""
    axes: Float[Tensor, "n d d"] | None = None
    """Columns are the covariance's eigenvectors; None: the axes are those of the sample."""

    def log_density(self, x0: Float[Tensor, "b r c h w"]) -> Float[Tensor, "b n"]:
        """log N of each sample under each belief, nats; r is n, or 1 where every sample is set against every belief."""
        error = (x0 - self.mean).flatten(2)
        along = error if self.axes is None else torch.einsum("bnd,nde->bne", error, self.axes)
        return -0.5 * (along.square() / self.var + (2 * math.pi * self.var).log()).sum(2)


def tweedie(denoise: DenoiseCandidates, xt: Float[Tensor, "n c h w"], t: Float[Tensor, " n"], y: Float[Tensor, "n k"], schedule: Schedule) -> Belief:
    """Mean and covariance of x0 given xt, the latter from how the mean moves with xt: exact for an exact denoiser, at c h w times the cost.

        Cov[x0 | xt, y] = (sigma^2 / alpha) d x0_hat(xt, y) / d xt

    Args:
        t: inside (0, 1).
    Source: Efron 2011, doi:10.1198/jasa.2011.tm11181; Meng et al. 2021, arXiv:2111.04726.
    """
    with torch.enable_grad():
        here = xt.detach().requires_grad_()
        mean = denoise(here, t, y[:, None]).squeeze(1)
        rows = [torch.autograd.grad(one.sum(), here, retain_graph=True)[0].flatten(1) for one in mean.flatten(1).unbind(1)]
    jacobian = torch.stack(rows, dim=1)
    covariance = expand(schedule.sigma(t) ** 2 / schedule.alpha(t), jacobian) * jacobian
    var, axes = torch.linalg.eigh((covariance + covariance.mT) / 2)
    mean_var = var.mean(1, keepdim=True).clamp(min=torch.finfo(xt.dtype).eps)
    return Belief(mean.detach(), torch.maximum(var, FLOOR * mean_var), axes)
