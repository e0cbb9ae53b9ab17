"""Uncertainty weighting: every loss divided by a scale that is learnt with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.aligners.base import Aligner, State


@dataclass(frozen=True, kw_only=True)
class Uncertainty(Aligner):
    """g'_i = exp(-s_i) g_i, where s_i follows the gradient of sum_i exp(-s_i) L_i + s_i: it tends to the logarithm of the loss.

    Args:
        rate: of the gradient descent on s, per step.
    Source: Kendall et al. 2018, arXiv:1705.07115, equation (7), s the logarithm of their variance.
    Deviates: plain gradient descent on s, not the optimizer of the weights.
    """

    rate: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"`rate` must lie between 0 and 1; found {self.rate}.")

    def init(self, num_losses: int) -> State:
        return {**super().init(num_losses), "log_scale": torch.zeros(num_losses, dtype=torch.float64)}

    def __call__(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"], state: State) -> tuple[Float[Tensor, "l l"], State]:
        log_scale = state["log_scale"].to(gram)
        coefficients, state = super().__call__(gram, losses, state)
        descent = (1 - torch.exp(-log_scale) * losses).clamp(-STEEPEST, STEEPEST)
        return torch.exp(-log_scale)[:, None] * coefficients, {**state, "log_scale": log_scale - self.rate * descent}

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        return torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


STEEPEST = 5.0
"""A loss far from its scale moves that no faster."""
