"""What a codec is: images to the space that is diffused, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from jaxtyping import Float
from torch import Tensor


class Codec(ABC):
    """Maps `image [b 3 h w]` in [-1, 1] to x0 of unit order and back; what weights it has are frozen, and no part of the model's."""

    channels: int
    """Channels of x0."""
    image_channels: int = 3
    """1: of grey images."""
    stride: int = 1
    """Pixels, in height and in width, that a place of x0 stands for; 1: x0 is the pixels."""

    def save(self, folder: Path) -> None:
        """Write the weights, of a codec that has some, as a folder that one of its kind is made from."""
        raise NotImplementedError(f"{type(self).__name__} has no weights")

    @abstractmethod
    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c hh ww"]:
        """x0 of an image."""

    @abstractmethod
    def decode(self, x0: Float[Tensor, "b c hh ww"]) -> Float[Tensor, "b 3 h w"]:
        """Image of an x0, clamped to [-1, 1]."""
