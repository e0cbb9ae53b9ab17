"""No modulation: the ablation, and plain diffusion."""

from __future__ import annotations

from torch import Tensor

from genrep.modulators.base import Modulator
from genrep.types import Denoised


class NoModulation(Modulator):
    """Leaves the prediction as it is."""

    def semantics(self, pooled: Tensor) -> Tensor:
        return pooled[:, :0]

    def forward(self, x0_hat: Tensor, xt: Tensor, logsnr: Tensor, sem: Tensor) -> Denoised:
        return Denoised(x0_hat, x0_hat.new_zeros(len(x0_hat)))
