"""An aligner of your own: each gradient loses a part of what runs against the other, and nothing else.

python examples/own_aligner.py train tiny --aligner softened --aligner.strength 0.5 --out runs/softened
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
class Softened(Aligner):
    """Softens conflict, leaves agreement alone.

        g'_i = g_i - strength min(G_ij, 0) / G_jj g_j,   so that <g'_i, g_j> = (1 - strength) <g_i, g_j> where they disagree

    Args:
        strength: 0 is the weighted sum, 1 PCGrad of two losses.
    """

    strength: float = 0.5

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        """C with C_ii = 1 and C_ij = -strength min(G_ij, 0) / G_jj."""
        against = gram.clamp(max=0) / gram.diagonal().clamp(min=1e-30)
        return torch.eye(len(gram), dtype=gram.dtype, device=gram.device) - self.strength * against


ALIGNERS["softened"] = Softened


def claim() -> None:
    """What it promises: of conflict the share 1 - strength is left."""
    gram = torch.tensor([[1.0, -1.0], [-1.0, 4.0]], dtype=torch.float64)
    coefficients, _ = Softened(strength=0.75)(gram, torch.ones(2, dtype=torch.float64), {})
    left = (coefficients @ gram)[0, 1] / gram[0, 1]
    assert abs(float(left) - 0.25) < 1e-12


if __name__ == "__main__":
    claim()
    sys.exit(main())
