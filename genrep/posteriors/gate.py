"""When to teach: does the generative posterior know anything that the head does not?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.layers import precise

FLOOR = -1e4
"""The head's log-probabilities below this many nats count as this."""

DOUBT = 0.05
"""Share of the images whose posterior may be of no use at all."""

MOST_STEPS, TOLERANCE = 200, 1e-10
"""Of Newton's method, which halves a step until the likelihood rises."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Exponents of the head q and the posterior p in q^head * p^weight, normalised: what both know together.

    The posterior is doubted: p here is (1 - DOUBT) p + DOUBT / m. The likelihoods of some images are far off, and a posterior
    that is sure and wrong of one in a hundred would weigh nothing otherwise, however much it knows of the others.

    Args:
        weight: of the posterior, the fitted w.
        standard_error: of w, from the observed information.
        head: of the head, fitted with w; below 1 where it is surer than it should be.
        alone: of the head without the posterior, as sure as it should be by itself: `head` is less, where what both know is counted twice.
    """

    weight: float
    standard_error: float
    head: float = 1.0
    alone: float = 1.0

    @property
    def teaches(self) -> bool:
        """Whether the posterior knows something that the head does not: w is two standard errors above 0.

        >>> Gate(weight=0.4, standard_error=0.1).teaches, Gate(weight=0.4, standard_error=0.3).teaches
        (True, False)
        """
        return self.weight > 2 * self.standard_error

    def product(
        self, head_log_probs: Float[Tensor, "n m"], posterior_log_probs: Float[Tensor, "n m"], stand_for: Float[Tensor, " m"] | None = None
    ) -> Float[Tensor, "n m"]:
        """log of the normalised product, which teaches where the gate is open; as precise as its arguments, under autocast, too.

        Args:
            stand_for: how many candidates each of these stands for, which it answers for; default: itself alone.
        """
        stand_for = posterior_log_probs.new_ones(posterior_log_probs.shape[1]) if stand_for is None else stand_for
        log_q, log_p = _both(head_log_probs, posterior_log_probs, float(stand_for.sum())).unbind(-1)
        return (self.head * log_q + self.weight * log_p + stand_for.log()).log_softmax(-1)

    def of_head(self, head_log_probs: Float[Tensor, "n m"], stand_for: Float[Tensor, " m"] | None = None) -> Float[Tensor, "n m"]:
        """log of what the head knows by itself, as sure as it should be; arguments as for `product`."""
        return replace(self, weight=0.0, head=self.alone).product(head_log_probs, torch.zeros_like(head_log_probs), stand_for)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Gate:
        """The inverse of `to_dict`."""
        return cls(**values)


def _both(head_log_probs: Float[Tensor, "n m"], posterior_log_probs: Float[Tensor, "n m"], num: float) -> Float[Tensor, "n m 2"]:
    """log q and the doubted log p, of so many candidates, side by side."""
    doubted = ((1 - DOUBT) * posterior_log_probs.exp() + DOUBT / num).log()
    return torch.stack([head_log_probs.clamp(min=FLOOR), doubted], -1)


def fit_gate(head_log_probs: Float[Tensor, "n m"], posterior_log_probs: Float[Tensor, "n m"], labels: Int[Tensor, " n"]) -> Gate:
    """The v and w that make q^v * p^w, normalised, give the labels the highest probability.

    Both, since a head that has learnt its few labels by heart is too sure of everything: beside such a q, w alone would fall below 0 to make the product less
    sure, however much p knows. The log-likelihood is concave; a standard normal prior on v - 1 and w keeps the answer finite for a posterior
    that is flat or never wrong, and is negligible beside some hundred labels.

    Args:
        head_log_probs: log q, of images the head was not trained on.
        posterior_log_probs: log p, calibrated on other images than these: on its own, a calibration's biases pass for knowledge.
        labels: true candidates, 0 to m - 1.
    """
    both = precise(_both(head_log_probs, posterior_log_probs, posterior_log_probs.shape[1]))
    (head, weight), covariance = _likeliest(both, labels, (1.0, 0.0))
    (alone,), _ = _likeliest(both[..., :1], labels, (1.0,))
    return Gate(weight=weight, standard_error=float(covariance[1, 1].sqrt()), head=head, alone=alone)


def _likeliest(log_probs: Float[Tensor, "n m e"], labels: Int[Tensor, " n"], expected: tuple[float, ...]) -> tuple[list[float], Float[Tensor, "e e"]]:
    """Exponents, normal around what is expected, that make the labels likeliest, and their covariance; by Newton's method."""
    start = log_probs.new_tensor(expected)
    of_truth = log_probs[torch.arange(len(labels)), labels]

    def at(theta: Tensor) -> tuple[float, Tensor, Tensor]:
        """Log-likelihood with the prior, its slope, and the information, minus its curvature."""
        mixed = (log_probs @ theta).log_softmax(-1)
        mean = torch.einsum("nm,nmi->ni", mixed.exp(), log_probs)
        around = log_probs - mean[:, None]
        value = mixed[torch.arange(len(labels)), labels].sum() - (theta - start).square().sum() / 2
        return (
            float(value),
            (of_truth - mean).sum(0) - (theta - start),
            torch.einsum("nm,nmi,nmj->ij", mixed.exp(), around, around) + torch.eye(len(start)).to(around),
        )

    theta = start
    for _ in range(MOST_STEPS):
        value, slope, information = at(theta)
        step = torch.linalg.solve(information, slope)
        while at(theta + step)[0] < value and float(step.abs().max()) > TOLERANCE:
            step = step / 2
        theta = theta + step
        if float(step.abs().max()) <= TOLERANCE:
            break
    return theta.tolist(), torch.linalg.inv(at(theta)[2])
