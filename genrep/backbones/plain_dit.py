"""The diffusion transformer as it was published, so that published weights fit it; with a stem beside it for the heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones.base import Hidden, TrunkConfig
from genrep.backbones.blocks import Block, Manner, modulate
from genrep.backbones.ends import Stem
from genrep.backbones.transformer import ClassEmbedding, Transformer
from genrep.layers import time_codes

NUM_TIMES = 1000
"""Times that it is told of: the first is t = 1 / 1000, and 0 its number."""
TIME_CODES = 256
TIMES_RATIO = 10_000.0 ** (128 / 127)
"""Of `time_codes`, so that the last of its 128 waves is ten thousand times as long as the first, as diffusers has it."""


@dataclass(frozen=True, kw_only=True)
class PlainDiTConfig(TrunkConfig):
    """Size of the trunk; by default S/2 of those that are published."""

    width: int = 384
    depth: int = 12
    num_heads: int = 6
    stem_width: int = 48
    taps: tuple[int, ...] = (4, 8, 12)
    patch: int = 2
    """Side of a token, in places of x0; a power of two."""
    places: int = 16
    """Tokens along a side of the images that the weights are of; the places of other images are spread as wide."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 2 or self.patch & (self.patch - 1):
            raise ValueError(f"`patch` must be 2, 4, 8, ...; found {self.patch}.")
        if self.places < 1:
            raise ValueError(f"`places` must be at least 1; found {self.places}.")

    def stride(self, image_size: tuple[int, int]) -> int:
        if any(side % self.patch for side in image_size):
            raise ValueError(f"sizes of x0 must be multiples of `patch` = {self.patch}; found {image_size}. Resize or pad the images.")
        return self.patch


def place_codes(grid: tuple[int, int], width: int, places: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of the column (first half) and the row (second half), counted as if there were `places` of them."""
    rows, columns = torch.meshgrid(*(torch.arange(num) * (places / num) for num in grid), indexing="ij")
    return torch.cat([time_codes(each.flatten(), width // 2, fastest=1.0) for each in (columns, rows)], dim=1)


class PlainDiT(Transformer):
    """Linear patches, blocks that all know t and y, and a linear read-out.

    The heads' fine maps are a stem's, of whose convolutions the tokens know nothing.

    Args:
        channels: of x0.
        image_size: (height, width) of x0, a multiple of `patch`.
        num_semantics: numbers of semantics that may stand behind the classes of a condition.
    Raises:
        ValueError: a size that is none.
    Source: Peebles and Xie 2023, arXiv:2212.09748.
    Deviates: no variance is read out (`modulators` have it); several classes make a condition, too. Times and places are coded as diffusers does it.
    """

    config: PlainDiTConfig

    def __init__(self, config: PlainDiTConfig, *, channels: int, image_size: tuple[int, int], num_classes: int, num_semantics: int = 0) -> None:
        super().__init__()
        self.config, self.num_classes, self.class_share, self.early = config, num_classes, 1.0, 0
        self.stride = config.stride(image_size)
        self.grid = (image_size[0] // self.stride, image_size[1] // self.stride)
        self.stem = Stem(channels, config.width, fine=config.stem_width, stride=self.stride, aside=True)
        self.time = nn.Sequential(nn.Linear(TIME_CODES, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.embedding = ClassEmbedding(num_classes, config.width, num_semantics)
        manner = Manner(config.num_heads, normalised=False, approximate="tanh")
        self.blocks = nn.ModuleList(Block(config.width, config.mlp_ratio, manner) for _ in range(config.depth))
        self.final_modulation = nn.Linear(config.width, 2 * config.width)
        self.read_out = nn.Linear(config.width, channels * self.stride**2)
        for layer in (self.final_modulation, self.read_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("positions", place_codes(self.grid, config.width, config.places), persistent=False)
        self.spec = self._specification(image_size)

    def _time(self, t: Tensor) -> Tensor:
        sines, cosines = time_codes((NUM_TIMES * t - 1).clamp(min=0), TIME_CODES, fastest=1.0, ratio=TIMES_RATIO).chunk(2, dim=1)
        return self.time(torch.cat([cosines, sines], dim=1).to(self.read_out.weight.dtype))

    def _tokens(self, xt: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        tokens, maps = self.stem(xt)
        return tokens.flatten(2).transpose(1, 2) + self.positions, maps

    def decode(self, hidden: Hidden) -> Tensor:
        shift, scale = self._final(hidden).unflatten(1, (2, 1, -1)).unbind(1)
        read = self.read_out(modulate(hidden.tokens, shift, scale))
        return F.pixel_shuffle(read.transpose(1, 2).unflatten(2, self.grid), self.stride)
