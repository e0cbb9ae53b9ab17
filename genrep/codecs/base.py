"""What a codec is: images to the space that is diffused, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Codec(ABC):
    """Maps `image [b 3 h w]` in [-1, 1] to x0 of unit order and back; what weights it has are frozen, and no part of the model's."""

    channels: int
    """Channels of x0."""
    image_channels: int = 3
    """1: of grey images."""
    stride: int = 1
    """Pixels, in height and in width, that a place of x0 stands for; 1: x0 is the pixels."""

    def save(self, folder: Path) -> None:
        """Write the weights, where it has some, as a folder that one of its kind is made from."""
        del folder

    def size_of(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of x0.

        Raises:
            ValueError: the images' size is no multiple of the stride.
        """
        if any(side % self.stride for side in image_size):
            raise ValueError(f"`image_size` must be a multiple of {self.stride}, the stride of the codec; found {image_size}.")
        return image_size[0] // self.stride, image_size[1] // self.stride

    def touched(self, mask: Float[Tensor, "b h w"]) -> Float[Tensor, "b hh ww"]:
        """The places of x0 that pixels above 0 lie in."""
        return mask if self.stride == 1 else F.max_pool2d(mask[:, None], self.stride).squeeze(1)

    def spread(self, maps: Float[Tensor, "b hh ww"]) -> Float[Tensor, "b h w"]:
        """Maps over the places of x0 as maps over pixels, with the same sum."""
        return maps.repeat_interleave(self.stride, 1).repeat_interleave(self.stride, 2) / self.stride**2

    def require_pixels(self) -> None:
        """Whether likelihoods are of pixels.

        Raises:
            ValueError: they are of latents.
        """
        if self.stride > 1:
            raise ValueError("likelihoods are of pixels; this model knows those of an autoencoder's latents, which compare with nothing else.")

    @abstractmethod
    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c hh ww"]:
        """x0 of an image."""

    @abstractmethod
    def decode(self, x0: Float[Tensor, "b c hh ww"]) -> Float[Tensor, "b 3 h w"]:
        """Image of an x0, clamped to [-1, 1]."""
