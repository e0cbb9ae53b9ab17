"""From log-likelihoods to posteriors: temperature and bias, fitted on validation labels and stored with the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.layers import precise
from genrep.posteriors.base import PosteriorEstimator

RIDGE = 1e-4
"""Weight of the squared distance from the start in the mean log-loss: keeps separable and constant data finite."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The posterior of an image's class.

        p(y | x) = softmax(tau_n * l + bias + log prior),   tau_n = tau / (1 + noisiness / n)

    where n is the budget that l was estimated with: a noisy estimate is worth less.

    Args:
        tau: > 0, multiplies the log-likelihoods; below 1 it softens.
        bias: [k] nats.
        noisiness: >= 0, the budget at which half of tau is reached; 0: one tau for all budgets.
        allocation, weights: of the denoising gap that it was fitted to; None: evenly, or another estimator.
    """

    tau: float
    bias: tuple[float, ...]
    noisiness: float = 0.0
    allocation: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None

    def tuned(self, estimator: PosteriorEstimator) -> PosteriorEstimator:
        """The estimator, drawing and weighing as this was fitted."""
        drawn = {name: part for name in ("allocation", "weights") if (part := getattr(self, name))}
        return dataclasses.replace(estimator, **drawn)

    def tau_at(self, budget: int) -> float:
        """What log-likelihoods of so many evaluations per class are multiplied by."""
        return self.tau / (1 + self.noisiness / budget)

    def log_posterior(
        self, log_lik: Float[Tensor, "n m"], log_prior: Float[Tensor, " k"], *, budget: int, classes: Int[Tensor, "n m"] | None = None
    ) -> Float[Tensor, "n m"]:
        """log p(y | x) from log p(x | y), nats.

        Args:
            budget: evaluations per class behind `log_lik`.
            classes: of which classes, and among which; default: all.
        """
        by_class = log_lik.new_tensor(self.bias) + log_prior.to(log_lik)
        return (self.tau_at(budget) * log_lik + (by_class if classes is None else by_class[classes])).log_softmax(-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; what older models do not have is as if it had not been fitted."""
        parts = {name: tuple(map(float, values[name])) for name in ("allocation", "weights") if values.get(name)}
        return cls(
            tau=float(values["tau"]),
            bias=tuple(map(float, values["bias"])),
            noisiness=float(values.get("noisiness", 0.0)),
            **parts,
        )


@dataclass(frozen=True, kw_only=True)
class ObjectCalibration:
    """The posterior of an object's class, given the rest of the image.

        p(class of j = k | x, rest) = softmax over the candidates k of (tau * l_jk / area_j^gamma + bias_k)

    Args:
        tau: > 0, multiplies the log-likelihoods of an object of area 1.
        gamma: 0 to 1, how log-likelihoods of large objects are tempered; 0: not at all, 1: mean per pixel.
        bias: [k] nats.
    """

    tau: float
    gamma: float
    bias: tuple[float, ...]

    def log_posterior(self, log_lik: Float[Tensor, "r m"], area: Float[Tensor, " r"], classes: Int[Tensor, "r m"]) -> Float[Tensor, "r m"]:
        """log p(class | x, rest), nats.

        Args:
            log_lik: of each object under each of its candidates (`objects.object_log_likelihood`).
            area: pixels of each object's region, > 0.
            classes: which class each candidate is.
        """
        tempered = self.tau * log_lik / area[:, None] ** self.gamma
        return (tempered + log_lik.new_tensor(self.bias)[classes]).log_softmax(-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for json."""
        return dataclasses.asdict(self) | {"bias": list(self.bias)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ObjectCalibration:
        """The inverse of `to_dict`."""
        return cls(tau=float(values["tau"]), gamma=float(values["gamma"]), bias=tuple(map(float, values["bias"])))


def fit_calibration(log_lik: Mapping[int, Float[Tensor, "n k"]], labels: Int[Tensor, " n"], log_prior: Float[Tensor, " k"]) -> Calibration:
    """Maximum likelihood of the labels, the mean over budgets.

    Args:
        log_lik: by budget; finite, nats, up to a constant per row. One budget alone gives a calibration that takes all budgets alike.
        labels: true classes, 0 to k - 1.
        log_prior: nats, up to a constant.
    Raises:
        ValueError: no budget.
    """
    if not log_lik:
        raise ValueError("`log_lik` is empty: a calibration needs the likelihoods of at least one budget.")
    budgets, log_prior = sorted(log_lik), precise(log_prior)
    values = torch.stack([precise(log_lik[budget]) for budget in budgets])
    scale, per_draw = scale_of(values[-1]), 1 / torch.tensor(budgets, dtype=values.dtype, device=values.device)

    def parts(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tau, noisiness and bias."""
        noisiness = budgets[0] * positive(theta[1] - 2) if len(budgets) > 1 else theta.new_zeros(())
        return positive(theta[0]) * scale, noisiness, theta[2:]

    def logits(theta: Tensor) -> Tensor:
        tau, noisiness, bias = parts(theta)
        return ((tau / (1 + noisiness * per_draw))[:, None, None] * values + bias + log_prior).flatten(0, 1)

    theta = minimised(logits, labels.repeat(len(budgets)), torch.zeros(2 + values.shape[2], dtype=values.dtype, device=values.device))
    tau, noisiness, bias = parts(theta)
    return Calibration(tau=float(tau), bias=tuple(bias.tolist()), noisiness=float(noisiness))


def fit_object_calibration(
    log_lik: Float[Tensor, "r m"], labels: Int[Tensor, " r"], *, area: Float[Tensor, " r"], classes: Int[Tensor, "r m"], num_classes: int
) -> ObjectCalibration:
    """Maximum likelihood of the objects' classes.

    Args:
        log_lik: finite, nats, up to a constant per row.
        labels: which of its candidates each object is, 0 to m - 1.
        area: pixels of each object's region, > 0.
        classes: which class each candidate is, 0 to num_classes - 1.
        num_classes: length of the fitted bias; classes that are never a candidate get 0.
    """
    log_lik, log_area = precise(log_lik), precise(area).log()
    typical = log_area.mean()
    relative = (log_area - typical)[:, None]
    scale = scale_of(log_lik)

    def logits(theta: Tensor) -> Tensor:
        return positive(theta[0]) * (-theta[1].sigmoid() * relative).exp() * scale * log_lik + theta[2:][classes]

    theta = minimised(logits, labels, torch.zeros(2 + num_classes, dtype=log_lik.dtype, device=log_lik.device))
    gamma = theta[1].sigmoid()
    tau = positive(theta[0]) * (gamma * typical).exp() * scale
    return ObjectCalibration(tau=float(tau), gamma=float(gamma), bias=tuple(theta[2:].tolist()))


def positive(theta: Tensor) -> Tensor:
    """A positive number within e^-8 to e^8, e^theta near 0: so that no line search overflows."""
    return (8 * (theta / 8).tanh()).exp()


def scale_of(log_lik: Tensor) -> Tensor:
    """The factor that brings the differences between candidates to order 1; 1 where there are none."""
    spread = (log_lik - log_lik.mean(1, keepdim=True)).square().mean().sqrt()
    return torch.where(spread > 0, 1 / spread, 1.0)


def minimised(
    logits: Callable[[Tensor], Tensor], labels: Int[Tensor, " n"], start: Float[Tensor, " p"], *, doubt: Callable[[Tensor], Tensor] | None = None
) -> Float[Tensor, " p"]:
    """argmin over theta of mean cross-entropy + RIDGE |theta - start|^2 + doubt(theta)."""
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits(theta), labels) + RIDGE * (theta - start).square().sum()
        loss = loss + doubt(theta) if doubt else loss
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return theta.detach()
