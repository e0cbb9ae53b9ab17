"""What a modulator is: perception's semantics acting on the mean and the spread of denoising."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from genrep.types import Denoised


class Modulator(nn.Module, ABC):
    """Turns pooled features into semantics, and semantics into a shift of x0_hat and a scale of the reverse kernel's std.

    It changes nothing at initialisation. Semantics of zero are "none", as used by the passes that estimate posteriors.
    """

    @abstractmethod
    def semantics(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b s"]:
        """One vector per image from the last tapped block's features, averaged over positions."""

    @abstractmethod
    def forward(self, x0_hat: Float[Tensor, "b c h w"], xt: Float[Tensor, "b c h w"], logsnr: Float[Tensor, " b"], sem: Float[Tensor, "b s"]) -> Denoised:
        """The modulated prediction."""
