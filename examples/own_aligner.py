"""An aligner of your own: each gradient loses what runs against the other, and nothing else (PCGrad).

python examples/own_aligner.py train tiny --aligner pcgrad --out runs/pcgrad
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.aligners import ALIGNERS, Aligner
from genrep.cli.main import main


@dataclass(frozen=True, kw_only=True)
class PCGrad(Aligner):
    """Removes conflict, leaves agreement alone.

        g'_i = g_i - min(G_ij, 0) / G_jj g_j,   so that <g'_i, g_j> >= 0

    Source: Yu et al. 2020, arXiv:2001.06782, algorithm 1, for two losses.
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        """C with C_ii = 1 and C_ij = -min(G_ij, 0) / G_jj."""
        against = gram.clamp(max=0) / gram.diagonal().clamp(min=1e-30)
        return torch.eye(len(gram), dtype=gram.dtype, device=gram.device) - against


ALIGNERS["pcgrad"] = PCGrad


def claim() -> None:
    """What it promises: after alignment no gradient runs against the other."""
    gram = torch.tensor([[1.0, -1.0], [-1.0, 4.0]], dtype=torch.float64)
    coefficients, _ = PCGrad()(gram, torch.ones(2, dtype=torch.float64), {})
    assert bool(((coefficients @ gram) >= -1e-12).all())


if __name__ == "__main__":
    claim()
    sys.exit(main())
