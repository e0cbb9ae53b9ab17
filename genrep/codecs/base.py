"""What a codec is: images to the space that is diffused, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class Codec(ABC):
    """Maps `image [b 3 h w]` in [-1, 1] to x0 of unit order and back. Codecs without weights are plain objects."""

    channels: int
    """Channels of x0."""

    @abstractmethod
    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c hh ww"]:
        """x0 of an image."""

    @abstractmethod
    def decode(self, x0: Float[Tensor, "b c hh ww"]) -> Float[Tensor, "b 3 h w"]:
        """Image of an x0, clamped to [-1, 1]."""
