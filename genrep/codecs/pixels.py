"""RGB images as they are."""

from __future__ import annotations

from torch import Tensor

from genrep.codecs.base import Codec


class Pixels(Codec):
    """x0 is the image."""

    channels = 3

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1)
