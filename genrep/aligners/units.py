"""Aligners that treat all gradients alike, whatever their size: the bisector, and Aligned-MTL."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.aligners.base import Aligner, cosines

FLAT = 1e-10
"""Eigenvalues below this part of the largest one count as zero."""


@dataclass(frozen=True, kw_only=True)
class Bisector(Aligner):
    """The direction that has the same cosine with every gradient, as long as what they have along it together.

        update = d sum_i <g_i, d>,   |d| = 1,   <g_i, d> / |g_i| equal for all i

    All rows of C are the update's coefficients, so weights that sum to one change nothing. With two losses it is the direction of
    Nash-MTL (Navon et al. 2022) and IMTL-G (Liu et al. 2021), too.

    Source: Liu et al. 2024, arXiv:2408.11104 (ConFIG), equations (1) to (3).
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        norm = gram.diagonal().sqrt()
        there = (norm > 0).to(gram)
        of_unit = torch.linalg.pinv(cosines(gram), rtol=FLAT, hermitian=True) @ there
        direction = (of_unit / norm).where(norm > 0, 0.0)
        length2 = direction @ gram @ direction
        if not length2 > 0:
            return torch.zeros_like(gram)
        along = gram @ direction
        return (direction * along.sum() / length2).expand(len(gram), -1).clone()


@dataclass(frozen=True, kw_only=True)
class AlignedMTL(Aligner):
    """The gradients made orthogonal and of one length, the shortest principal one, with the least change.

        g' = s_min V S^-1 V^T g   for the Gramian V S^2 V^T

    Source: Senushkin et al. 2023, arXiv:2305.19000, equation (9).
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        values, vectors = torch.linalg.eigh(gram)
        kept = values > FLAT * values.amax().clamp(min=1e-300)
        if not bool(kept.any()):
            return torch.zeros_like(gram)
        least = values[kept].amin()
        return (vectors * (least / values).sqrt().where(kept, 0.0)) @ vectors.T
