"""Muon in the matrices' own numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

RMS = 0.2
"""Root mean square of an update over the learning rate, as AdamW's has it."""


class WideMuon(torch.optim.Muon):
    """torch's Muon with `match_rms_adamw`, orthogonalising in its parameters' precision.

    torch's does so in bfloat16 whatever they are, which took two thirds of the demo's training step on a CPU that emulates it.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient; nothing is evaluated anew."""
        assert closure is None
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for matrix in (p for p in group["params"] if p.grad is not None):
                buffer = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix.grad))
                buffer.lerp_(matrix.grad, 1 - momentum)
                update = orthogonalised(matrix.grad.lerp(buffer, momentum), group["ns_coefficients"], num_steps=group["ns_steps"], least=group["eps"])
                matrix.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr * RMS * math.sqrt(max(matrix.shape)))


def orthogonalised(matrix: Float[Tensor, "a b"], coefficients: tuple[float, float, float], *, num_steps: int, least: float) -> Float[Tensor, "a b"]:
    """The matrix with all singular values near 1, by so many steps of Newton and Schulz with a quintic polynomial.

    Args:
        least: of the norm it is divided by at first.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    a, b, c = coefficients
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp(min=least)
    for _ in range(num_steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
