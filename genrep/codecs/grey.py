"""Grey images as one channel."""

from __future__ import annotations

from torch import Tensor

from genrep.codecs.base import Codec


class Grey(Codec):
    """x0 is the one channel of a grey image; exact. Refuses colour.

    Grey repeated three times would triple the signal at equal noise and spoil densities.
    """

    channels = image_channels = 1

    def encode(self, image: Tensor) -> Tensor:
        if bool((image[:, 0] != image[:, 1]).any()) or bool((image[:, 0] != image[:, 2]).any()):
            raise ValueError("codec `grey` needs grey images (three equal channels); found colour. Use `--model.codec pixels`.")
        return image[:, :1]

    def decode(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1).expand(-1, 3, -1, -1)
