"""What tasks that say something of every pixel share."""

from __future__ import annotations

from abc import ABC
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import wide
from genrep.tasks.base import Fuse, Task
from genrep.types import Features, FeatureSpec

Result = TypeVar("Result")


class Dense(Task[Tensor, Result], ABC):
    """What each token holds, drawn out to the stem's finest map, plus a fine correction that sees it; and to pixels, where that is coarser.

        map = upsampled(classify(tokens)) + read(fine),   fine = unfolded tokens + stem

    Args:
        channels: of the map.
    """

    glimpses = True

    def __init__(self, spec: FeatureSpec, channels: int, width: int = 128, fine_width: int = 24) -> None:
        super().__init__()
        self.finest = spec.stem_strides[0]
        self.stride = spec.tap_stride // self.finest
        self.fuse = Fuse(spec, width, scan=True)
        self.tower = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU())
        self.classify = nn.Conv2d(width, channels, 1)
        self.unfold = nn.Conv2d(width, fine_width * self.stride**2, 1)
        self.skip = nn.Conv2d(spec.stem[0], fine_width, 1)
        self.refine = nn.Conv2d(fine_width, fine_width, 3, padding=1)
        self.read = nn.Conv2d(fine_width, channels, 1)

    def map(self, features: Features) -> Float[Tensor, "b c h w"]:
        """In float32."""
        fused = self.fuse(features)
        tokens = fused + self.tower(fused)
        fine = F.silu(F.pixel_shuffle(self.unfold(tokens), self.stride) + self.skip(features.stem[0]))
        coarse = F.interpolate(self.classify(tokens), scale_factor=self.stride, mode="bilinear")
        found = wide(coarse + self.read(fine + F.silu(self.refine(fine))))
        return found if self.finest == 1 else F.interpolate(found, scale_factor=self.finest, mode="bilinear")
