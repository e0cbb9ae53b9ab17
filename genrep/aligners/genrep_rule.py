"""The paper's gradient alignment: each gradient keeps what is orthogonal to the other, and a share of what is parallel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.aligners.base import Aligner, cosines


@dataclass(frozen=True, kw_only=True)
class GenRepRule(Aligner):
    """Damps the part of each gradient that is parallel to the other, the more the more they disagree.

        g'_i = orthogonal part of g_i to g_j + share_ij * parallel part,   share_ij = ((cos_ij + 1) / 2)^2
        C_ii = 1,   C_ij = -(1 - share_ij) G_ij / G_jj,  0 where g_j = 0

    share is 0 for opposite gradients and 1 only for parallel ones: agreeing gradients are damped too, keeping
    .30 / .39 / .56 / .77 of their common part at a cosine of .1 / .25 / .5 / .75.

    Args:
        keep_agreement: share = 1 where the cosine is not below 0, so that only what conflicts is damped. Ours.
        only: the one loss whose gradient is changed, counted from 0; None: each.
    Source: the paper's equations (11) to (15), `share` being its alpha.
    Deviates: the paper has two losses; with more, the parallel parts to all the others are damped, each on its own.

    >>> import torch
    >>> gram = torch.tensor([[1.0, -1.0], [-1.0, 4.0]]).double()
    >>> GenRepRule()(gram, torch.ones(2).double(), {})[0].tolist()
    [[1.0, 0.234375], [0.9375, 1.0]]
    """

    keep_agreement: bool = False
    only: int | None = None

    def __post_init__(self) -> None:
        if self.only is not None and self.only < 0:
            raise ValueError(f"`only` must be the number of a loss, counted from 0, or none; found {self.only}.")

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        cos = cosines(gram)
        share = ((cos + 1) / 2) ** 2
        share = share.where(cos < 0, 1.0) if self.keep_agreement else share
        norm2 = gram.diagonal()
        parallel = (gram / norm2).where(norm2 > 0, 0.0)
        coefficients = (share - 1) * parallel
        if self.only is not None:
            coefficients = coefficients * (torch.arange(len(gram), device=gram.device) == self.only)[:, None]
        return coefficients.fill_diagonal_(1.0)
