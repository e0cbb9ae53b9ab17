"""What an aligner is: the small Gramian of the loss gradients in, a matrix of coefficients out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Aligner(ABC):
    """Maps the Gramian of the loss gradients to aligned gradients; never sees a parameter, a process group or a device.

    g'_i = sum_j C_ij g_j,     update = sum_i w_i g'_i = w^T C g
    """

    balance: bool = False
    """Bring the gradients to one norm (running, the geometric mean of theirs) before anything else, so that a loss does not win by its
    scale alone. Ours: the paper's losses are of similar scale, sums over tasks are not."""

    def init(self, num_losses: int) -> State:
        """State before the first step; it goes into the checkpoint."""
        return {"norm2": torch.zeros(num_losses, dtype=torch.float64), "weight": torch.zeros(1, dtype=torch.float64)} if self.balance else {}

    def __call__(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"], state: State) -> tuple[Float[Tensor, "l l"], State]:
        """Coefficients C, float64, and the next state.

        Args:
            gram: <g_i, g_j> over the shared parameters, float64.
            losses: values of the losses, float64.
        """
        if not self.balance:
            return self.coefficients(gram, losses), state
        state = {
            "norm2": torch.lerp(gram.diagonal(), state["norm2"].to(gram), MOMENTUM),
            "weight": torch.lerp(torch.ones_like(gram[:1, 0]), state["weight"].to(gram), MOMENTUM),
        }
        log_norm = (state["norm2"] / state["weight"]).clamp(min=1e-30).log() / 2
        scale = torch.exp(log_norm.mean() - log_norm)
        return self.coefficients(gram * scale[:, None] * scale, losses) * scale, state

    @abstractmethod
    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        """C for gradients as they are."""


MOMENTUM = 0.95
"""Of the running norms, per step."""


def cosines(gram: Float[Tensor, "l l"]) -> Float[Tensor, "l l"]:
    """Cosines between the gradients, in [-1, 1]; 0 where a gradient is zero."""
    norm = gram.diagonal().sqrt()
    norms = norm[:, None] * norm
    return (gram / norms).where(norms > 0, 0.0).clamp(-1, 1)


def rooted(gram: Float[Tensor, "l l"]) -> Float[Tensor, "l l"]:
    """A, on the CPU, with A^T A = the Gramian: gradients of as few dimensions as there are."""
    values, vectors = torch.linalg.eigh(gram.cpu())
    return values.clamp(min=0).sqrt()[:, None] * vectors.T


def share_kept(coefficients: Float[Tensor, "l l"], gram: Float[Tensor, "l l"], sums: Float[Tensor, "s l"] | None = None) -> Float[Tensor, "s s"]:
    """What an aligner left of the part of gradient i that is parallel to gradient j: <g'_i, g_j> / (C_ii <g_i, g_j>).

    1: untouched, 0: removed, below 0: reversed; 1 where they are orthogonal, as there was nothing to keep, and where C_ii is 0.

    Args:
        sums: sums of gradients that this is asked of; None: of each by itself.
    """
    sums = torch.eye(len(gram)).to(gram) if sums is None else sums
    own = sums @ (coefficients.diagonal()[:, None] * gram) @ sums.T
    return (sums @ coefficients @ gram @ sums.T / own).where(own != 0, 1.0)
