"""What a modulator is: perception's semantics acting on the mean and the spread of denoising."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from genrep.randomness import SampleGenerator
from genrep.types import Denoised


class Modulator(nn.Module, ABC):
    """Turns pooled features into semantics, and semantics into a shift of x0_hat and a scale of the reverse kernel's std.

    It changes nothing at initialisation. Semantics of zero are "none", as used by the passes that estimate posteriors.

    Args:
        width: channels of the pooled features.
        patch: side of a token in pixels of x0.
        channels: of x0.
        num_classes: of a condition.
    """

    num_told: ClassVar[int] = 0
    """How many numbers of semantics the trunk is told, behind the classes of a condition; 0: it hears of classes alone."""

    def __init__(self, *, width: int, patch: int, channels: int, num_classes: int) -> None:
        super().__init__()

    @abstractmethod
    def semantics(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b s"]:
        """One vector per image from the last tapped block's features, averaged over positions."""

    @abstractmethod
    def forward(self, x0_hat: Float[Tensor, "b c h w"], xt: Float[Tensor, "b c h w"], logsnr: Float[Tensor, " b"], sem: Float[Tensor, "b s"]) -> Denoised:
        """The modulated prediction."""

    def observe(self, pooled: Float[Tensor, "b d"]) -> None:
        """Note the pooled features of clean images; before `settle` all images of a step, each equally often."""

    def settle(self) -> None:
        """Let what was noted count: once after every update."""

    def draw(self, y: Float[Tensor, "b k"], generator: SampleGenerator) -> Float[Tensor, "b s"] | None:
        """Semantics that images of these classes may have; None where the modulator has no idea of them, and images make up their own."""
        return None
