"""Aligners that take from each gradient what speaks against the others: PCGrad and UPGrad."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from genrep.aligners.base import Aligner, rooted


@dataclass(frozen=True, kw_only=True)
class PCGrad(Aligner):
    """Projects each gradient onto the normal plane of every other one that it conflicts with, one after the other.

        g'_i <- g'_i - <g'_i, g_j> / |g_j|^2 g_j   where <g'_i, g_j> < 0

    Source: Yu et al. 2020, arXiv:2001.06782, algorithm 1.
    Deviates: the others are taken in their order, not in a random one; with two losses there is no difference.

    >>> gram = torch.tensor([[1.0, -1.0], [-1.0, 4.0]]).double()
    >>> PCGrad()(gram, torch.ones(2).double(), {})[0].tolist()
    [[1.0, 0.25], [1.0, 1.0]]
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        rows = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        for j, norm2 in enumerate(gram.diagonal()):
            if norm2 > 0:
                against = (rows @ gram[:, j]).clamp(max=0)
                against[j] = 0
                rows[:, j] -= against / norm2
        return rows


@dataclass(frozen=True, kw_only=True)
class UPGrad(Aligner):
    """Brings each gradient to the nearest direction that harms no loss.

        g'_i = argmin |g - g_i|  over g with <g, g_j> >= 0 for all j

    With two losses the same as PCGrad.

    Source: Quinton and Rey 2024, arXiv:2406.16232, equation (4): the dual problem, min |sum_j v_j g_j| over v >= e_i.
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        root = rooted(gram)
        rows = [torch.from_numpy(nnls(root.numpy(), -root[:, i].numpy())[0]) for i in range(len(gram))]
        return torch.stack(rows).to(gram) + torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
