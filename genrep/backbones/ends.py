"""Where pixels become tokens and tokens become pixels: the stem and the read-out of a trunk."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import GroupNorm, Halving, StandardConv2d


class Stem(nn.Module):
    """From pixels to tokens: convolutions that halve the resolution `log2(stride)` times, and a linear embedding of the patches.

    The filters have zero mean, so that they see shapes rather than the light; what a patch holds on average comes by the embedding.
    The convolutions' maps are the pyramid's fine levels.

    Args:
        width: of a token.
        fine: channels of the finest map; doubled at every halving of the resolution.
        aside: tokens are the embedded patches alone, and the maps are for the heads.
    Source: early convolutions help small transformers see, Xiao et al. 2021, arXiv:2106.14881.
    """

    def __init__(self, channels: int, width: int, *, fine: int, stride: int, aside: bool = False) -> None:
        super().__init__()
        levels = stride.bit_length() - 1
        self.widths = tuple(fine * 2**i for i in range(levels))
        self.embed = nn.Conv2d(channels, width, stride, stride=stride)
        self.first = StandardConv2d(channels, self.widths[0], 3)
        self.aside = aside
        self.down = nn.ModuleList(Halving(a, b) for a, b in pairwise(self.widths if aside else (*self.widths, width)))

    def forward(self, xt: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Token map [b d gh gw], and the maps before it, fine to coarse."""
        xt = xt.to(memory_format=torch.channels_last)
        maps = self.maps(xt)
        patches = self.embed(xt)
        return patches if self.aside else self.down[-1](F.silu(maps[-1])) + patches, maps

    def maps(self, xt: Tensor) -> tuple[Tensor, ...]:
        """The maps before the tokens, fine to coarse."""
        maps = [self.first(xt.to(memory_format=torch.channels_last))]
        for halving in self.down[: len(self.widths) - 1]:
            maps.append(halving(F.silu(maps[-1])))
        return tuple(maps)


class ReadOut(nn.Module):
    """From tokens back to pixels, joined with the stem's finest map: what is fine in xt need not pass through the tokens.

    Zero at initialisation.

    Args:
        width, fine: as of the stem.
        channels: of what is read out.
    """

    def __init__(self, width: int, channels: int, *, fine: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.unfold = nn.Linear(width, fine * stride**2)
        self.norm = GroupNorm(8, fine)
        self.conv = nn.Conv2d(fine, fine, 3, padding=1)
        self.out = nn.Conv2d(fine, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Float[Tensor, "b d gh gw"], fine: Float[Tensor, "b f h w"]) -> Float[Tensor, "b c h w"]:
        x = F.pixel_shuffle(self.unfold(tokens.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), self.stride) + fine
        return self.out(F.silu(x + self.conv(F.silu(self.norm(x)))))
