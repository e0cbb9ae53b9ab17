"""A lean diffusion transformer with a convolutional stem, whose blocks offer a pyramid to perception."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones.base import Hidden, TrunkConfig
from genrep.backbones.blocks import Block, Manner, modulate
from genrep.backbones.ends import ReadOut, Stem
from genrep.backbones.transformer import ClassEmbedding, Transformer
from genrep.layers import time_codes


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TrunkConfig):
    """Size of the trunk."""

    class_blocks: int = 6
    """How many of the last blocks are conditioned on y; the others form a prefix that all classes share. 0: none, only the read-out is."""
    class_rank: int = 0
    """Above 0, where `class_blocks` is 0: the read-out makes so many maps, of which every condition has a mixture of its own, so that one pass answers for any
    number of classes; 0: the condition modulates what the read-out reads."""
    max_tokens: int = 192
    """Tokens of an image at most: the stem's stride is the smallest power of two, from 4 px on, that leaves no more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.class_blocks <= self.depth:
            raise ValueError(f"`class_blocks` must be in 0..depth = {self.depth}; found {self.class_blocks}.")
        if self.class_rank < 0 or (self.class_rank and self.class_blocks):
            raise ValueError(f"`class_rank` must be at least 0, and above it only where `class_blocks` is 0; found {self.class_rank} and {self.class_blocks}.")

    def stride(self, image_size: tuple[int, int]) -> int:
        return stride_for(image_size, self.max_tokens)


def stride_for(image_size: tuple[int, int], max_tokens: int) -> int:
    """The smallest power of two >= 4 that leaves at most `max_tokens` tokens.

    >>> stride_for((32, 32), 192), stride_for((96, 96), 192), stride_for((96, 128), 192)
    (4, 8, 8)

    Raises:
        ValueError: the stride does not divide the image size.
    """
    height, width = image_size
    stride = 4
    while (height // stride) * (width // stride) > max_tokens:
        stride *= 2
    if height % stride or width % stride:
        raise ValueError(f"`image_size` must be a multiple of {stride} at {height} x {width} px; found {image_size}. Resize or pad the images.")
    return stride


def position_codes(grid: tuple[int, int], width: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of the row (first half) and the column (second half), from a quarter of a turn per place to an eighth of a turn along the whole axis.

    Their mean over the grid is zero, their mean square one: a direction that all places share would only be in the way of what tells them apart.
    """
    num_waves = width // 4
    codes = []
    for axis, length in zip(torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in grid), indexing="ij"), grid, strict=True):
        frequency = math.pi / 2 * (2 * length) ** -torch.linspace(0, 1, num_waves)
        phase = axis.reshape(-1, 1) * frequency
        codes += [phase.sin(), phase.cos()]
    varying = torch.cat(codes, dim=1)
    varying = varying - varying.mean(0)
    return varying * varying.square().mean().clamp(min=1e-12).rsqrt()


class DiT(Transformer):
    """Stem, blocks, and a read-out to the pixels of each token.

    t conditions every block; y only the last `class_blocks`, and the read-out. Tokens enter normalised, so that what a block adds counts beside what the
    stem says.

    Args:
        channels: of x0.
        image_size: (height, width) of x0, a multiple of the stem's stride.
        num_semantics: numbers of semantics that may stand behind the classes of a condition.
    """

    config: DiTConfig

    def __init__(self, config: DiTConfig, *, channels: int, image_size: tuple[int, int], num_classes: int, num_semantics: int = 0) -> None:
        super().__init__()
        self.config, self.num_classes, self.class_share = config, num_classes, config.class_blocks / config.depth
        self.early = config.depth - config.class_blocks
        self.stride = config.stride(image_size)
        self.grid = (image_size[0] // self.stride, image_size[1] // self.stride)
        self.stem = Stem(channels, config.width, fine=config.stem_width, stride=self.stride)
        self.time = nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.embedding = ClassEmbedding(num_classes, config.width, num_semantics)
        self.blocks = nn.ModuleList(Block(config.width, config.mlp_ratio, Manner(config.num_heads)) for _ in range(config.depth))
        self.final_modulation = nn.Linear(config.width, config.class_rank or 2 * config.width)
        nn.init.zeros_(self.final_modulation.bias)
        if config.class_rank:
            nn.init.ones_(self.final_modulation.bias[:1])
        else:
            nn.init.zeros_(self.final_modulation.weight)
        self.channels = channels
        self.read_out = ReadOut(config.width, channels * max(1, config.class_rank), fine=config.stem_width, stride=self.stride)
        self.register_buffer("positions", position_codes(self.grid, config.width), persistent=False)
        self.spec = self._specification(image_size)

    def _time(self, t: Tensor) -> Tensor:
        return self.time(time_codes(t, self.config.width).to(self.final_modulation.weight.dtype))

    def _tokens(self, xt: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        tokens, maps = self.stem(xt)
        tokens = tokens.flatten(2).transpose(1, 2)
        return F.layer_norm(tokens, tokens.shape[-1:]) + self.positions, maps

    def decode(self, hidden: Hidden) -> Tensor:
        final = self._final(hidden)
        if self.config.class_rank:
            return torch.einsum("br,brchw->bchw", final, self._maps(hidden))
        shift, scale = final.unflatten(1, (2, 1, -1)).unbind(1)
        tokens = modulate(hidden.tokens, shift, scale).transpose(1, 2).unflatten(2, self.grid)
        return self.read_out(tokens, hidden.features.stem[0])

    def answers(self, hidden: Hidden, candidates: Tensor) -> Tensor:
        if not self.config.class_rank:
            return super().answers(hidden, candidates)
        num = candidates.shape[1]
        mixtures = self.final_modulation(F.silu(hidden.conditioning.repeat_interleave(num, 0) + self.embedding(candidates.flatten(0, 1))))
        return torch.einsum("bmr,brchw->bmchw", mixtures.unflatten(0, (-1, num)), self._maps(hidden))

    def _maps(self, hidden: Hidden) -> Float[Tensor, "b r c h w"]:
        """What conditions mix."""
        tokens = F.layer_norm(hidden.tokens, hidden.tokens.shape[-1:]).transpose(1, 2).unflatten(2, self.grid)
        return self.read_out(tokens, hidden.features.stem[0]).unflatten(1, (-1, self.channels))
