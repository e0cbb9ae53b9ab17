"""Conversions between what networks predict (x0, eps, v, u) and the reverse kernel, in every schedule.

    v = alpha eps - sigma x0                        u = d xt / dt = alpha' x0 + sigma' eps

They are not the same thing: in rectified flow u = eps - x0, in the cosine schedule u = (pi / 2) v. `residual` is what the best
linear guess leaves over, in units of its own spread, so that a small network need not carry noise from its input to its output:

    x0 = alpha d^2 / (alpha^2 d^2 + sigma^2) xt + sigma d / sqrt(alpha^2 d^2 + sigma^2) residual,   d = `DATA_STD`

after Karras et al. 2022, arXiv:2206.00364, equation (7), for any schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.schedules import Schedule, expand

PREDICTIONS = ("residual", "u", "v", "eps", "x0")
"""What a network may predict."""

DATA_STD = 0.8
"""Root mean square of x0 that `residual` assumes: images in [-1, 1] with much empty ground."""


def _refuse_zero(value: Tensor, name: str, wanted: str, given: str) -> None:
    if bool((value == 0).any()):
        raise ValueError(f"`{wanted}` cannot be had from `{given}` where {name}(t) = 0; keep `t` inside the schedule's open interval (0, 1).")


def x0_from(prediction: Tensor, xt: Tensor, t: Float[Tensor, " b"], *, kind: str, schedule: Schedule) -> Tensor:
    """The clean sample that a prediction of the given kind (one of `PREDICTIONS`) implies at (xt, t).

    Raises:
        ValueError: `eps` where alpha = 0.
    """
    alpha, sigma = expand(schedule.alpha(t), xt), expand(schedule.sigma(t), xt)
    if kind == "x0":
        return prediction
    if kind == "residual":
        total2 = (alpha * DATA_STD) ** 2 + sigma**2
        return alpha * DATA_STD**2 / total2 * xt + sigma * DATA_STD / total2.sqrt() * prediction
    if kind == "eps":
        _refuse_zero(alpha, "alpha", "x0", "eps")
        return (xt - sigma * prediction) / alpha
    if kind == "v":
        return (alpha * xt - sigma * prediction) / (alpha**2 + sigma**2)
    if kind == "u":
        d_alpha, d_sigma = (expand(rate, xt) for rate in schedule.rates(t))
        return (d_sigma * xt - sigma * prediction) / (alpha * d_sigma - sigma * d_alpha)
    raise ValueError(f"`kind` must be one of {', '.join(PREDICTIONS)}; found `{kind}`.")


def eps_from_x0(x0: Tensor, xt: Tensor, t: Float[Tensor, " b"], schedule: Schedule) -> Tensor:
    """eps = (xt - alpha x0) / sigma.

    Raises:
        ValueError: where sigma = 0.
    """
    sigma = expand(schedule.sigma(t), xt)
    _refuse_zero(sigma, "sigma", "eps", "x0")
    return (xt - expand(schedule.alpha(t), xt) * x0) / sigma


def u_from_x0(x0: Tensor, xt: Tensor, t: Float[Tensor, " b"], schedule: Schedule) -> Tensor:
    """u = alpha' x0 + sigma' eps, the slope of the probability-flow ODE (t > 0)."""
    d_alpha, d_sigma = (expand(rate, xt) for rate in schedule.rates(t))
    return d_alpha * x0 + d_sigma * eps_from_x0(x0, xt, t, schedule)


@dataclass(frozen=True)
class ReverseKernel:
    """q(xs | xt, x0) from t to s < t, exact in every family; all [b].

        mu = of_xt * xt + of_x0 * x0,   var = var_ts sigma_s^2 / sigma_t^2
        of_xt = a sigma_s^2 / sigma_t^2,   of_x0 = alpha_s var_ts / sigma_t^2,   a = alpha_t / alpha_s,   var_ts = sigma_t^2 - a^2 sigma_s^2

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix A; the paper's equation (1).
    """

    of_xt: Tensor
    of_x0: Tensor
    var: Tensor

    def mean(self, xt: Tensor, x0: Tensor) -> Tensor:
        """mu, shaped like xt."""
        return expand(self.of_xt, xt) * xt + expand(self.of_x0, xt) * x0


def reverse_kernel(schedule: Schedule, t: Float[Tensor, " b"], s: Float[Tensor, " b"]) -> ReverseKernel:
    """The kernel from t to s, 0 <= s < t <= 1."""
    ratio = schedule.alpha(t) / schedule.alpha(s)
    sigma2_t, sigma2_s = schedule.sigma(t) ** 2, schedule.sigma(s) ** 2
    var_ts = sigma2_t - ratio**2 * sigma2_s
    return ReverseKernel(of_xt=ratio * sigma2_s / sigma2_t, of_x0=schedule.alpha(s) * var_ts / sigma2_t, var=var_ts * sigma2_s / sigma2_t)


def eps_error(x0_error2: Tensor, t: Float[Tensor, " b"], schedule: Schedule) -> Tensor:
    """|eps - eps_hat|^2 from |x0 - x0_hat|^2: times e^logsnr, in every family."""
    return expand(torch.exp(schedule.logsnr(t)), x0_error2) * x0_error2


def u_error(x0_error2: Tensor, t: Float[Tensor, " b"], schedule: Schedule) -> Tensor:
    """|u - u_hat|^2 from |x0 - x0_hat|^2 (t > 0): in flow divided by t^2."""
    (d_alpha, d_sigma), alpha, sigma = schedule.rates(t), schedule.alpha(t), schedule.sigma(t)
    return expand(((alpha * d_sigma - sigma * d_alpha) / sigma) ** 2, x0_error2) * x0_error2
