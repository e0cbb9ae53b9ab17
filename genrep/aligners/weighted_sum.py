"""The weighted sum: gradients as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.aligners.base import Aligner


@dataclass(frozen=True, kw_only=True)
class WeightedSum(Aligner):
    """No alignment: g'_i = g_i, the update is sum_i w_i g_i. The opponent every other aligner has to beat.

    Source: the paper's equation (16) with unaligned gradients.

    >>> WeightedSum()(torch.ones(2, 2).double(), torch.ones(2).double(), {})[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        return torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
