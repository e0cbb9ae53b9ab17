"""When to teach: does the generative posterior know anything that the head does not?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

FLOOR = -1e4
"""Log-probabilities below this many nats count as this."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Weight of the posterior p beside the head q in q * p^weight, normalised.

    Args:
        weight: the fitted w.
        standard_error: of w, from the observed information.
    """

    weight: float
    standard_error: float

    @property
    def teaches(self) -> float:
        """Share of the distillation weight to use: min(1, w), and 0 while w is not two standard errors above 0.

        >>> Gate(weight=0.4, standard_error=0.1).teaches, Gate(weight=0.4, standard_error=0.3).teaches
        (0.4, 0.0)
        """
        return min(1.0, self.weight) if self.weight > 2 * self.standard_error else 0.0

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for json."""
        return dataclasses.asdict(self)


def fit_gate(head_log_probs: Float[Tensor, "n m"], posterior_log_probs: Float[Tensor, "n m"], labels: Int[Tensor, " n"]) -> Gate:
    """The w that makes q * p^w, normalised, give the labels the highest probability.

    The log-likelihood is concave in w; a standard normal prior on w keeps the answer finite for a posterior that is flat
    or never wrong, and is negligible beside some hundred labels.

    Args:
        head_log_probs: log q, of images the head was not trained on.
        posterior_log_probs: log p, calibrated on other images than these: on its own, a calibration's biases pass for knowledge.
        labels: true candidates, 0 to m - 1.
    """
    log_q, log_p = (log_probs.double().clamp(min=FLOOR) for log_probs in (head_log_probs, posterior_log_probs))
    of_truth = log_p.gather(1, labels[:, None]).sum()

    def moments(w: float) -> tuple[Tensor, Tensor]:
        """Mean and variance of log p under q * p^w, [n]."""
        mixed = (log_q + w * log_p).softmax(-1)
        mean = (mixed * log_p).sum(-1)
        return mean, (mixed * (log_p - mean[:, None]).square()).sum(-1)

    def slope(w: float) -> float:
        return float(of_truth - moments(w)[0].sum()) - w

    at_zero = slope(0.0)
    weight = _root(slope, min(at_zero, 0.0), max(at_zero, 0.0))
    information = float(moments(weight)[1].sum()) + 1
    return Gate(weight=weight, standard_error=1 / math.sqrt(information))


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero between low and high, by bisection to the last digits."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
