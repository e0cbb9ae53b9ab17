"""A lean diffusion transformer with a convolutional stem, whose blocks offer a pyramid to perception."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones.base import Backbone, Hidden, Pass
from genrep.backbones.blocks import Block, FoldedBlock, modulate
from genrep.backbones.ends import ReadOut, Stem
from genrep.backbones.joined import JoinedBlock
from genrep.layers import Kept, time_codes, weights_state
from genrep.types import Features, FeatureSpec


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Size of the trunk."""

    width: int = 144
    """Channels of a token."""
    depth: int = 6
    """Blocks."""
    num_heads: int = 4
    """Attention heads of a block."""
    mlp_ratio: float = 4.0
    """Hidden channels of a block's MLP, in units of `width`."""
    stem_width: int = 24
    """Channels of the stem's finest map; doubled at every halving of the resolution."""
    class_blocks: int = 6
    """How many of the last blocks are conditioned on y; the others form a prefix that all classes share. 0: none, only the read-out is."""
    class_rank: int = 0
    """Above 0, where `class_blocks` is 0: the read-out makes so many maps, of which every condition has a mixture of its own, so that one pass answers for any
    number of classes; 0: the condition modulates what the read-out reads."""
    taps: tuple[int, ...] = (2, 4, 6)
    """After which blocks (counted from 1) features are taken for the heads."""
    max_tokens: int = 192
    """Tokens of an image at most: the stem's stride is the smallest power of two, from 4 px on, that leaves no more."""

    def __post_init__(self) -> None:
        if self.width % math.lcm(8, 4 * self.num_heads):
            raise ValueError(f"`width` must be a multiple of 8 and of 4 * num_heads = {4 * self.num_heads}; found {self.width}.")
        if self.stem_width % 8:
            raise ValueError(f"`stem_width` must be a multiple of 8; found {self.stem_width}.")
        if not 0 <= self.class_blocks <= self.depth:
            raise ValueError(f"`class_blocks` must be in 0..depth = {self.depth}; found {self.class_blocks}.")
        if self.class_rank < 0 or (self.class_rank and self.class_blocks):
            raise ValueError(f"`class_rank` must be at least 0, and above it only where `class_blocks` is 0; found {self.class_rank} and {self.class_blocks}.")
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 1 or self.taps[-1] > self.depth:
            raise ValueError(f"`taps` must be increasing block numbers in 1..depth = {self.depth}; found {self.taps}.")


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


class ClassEmbedding(nn.Module):
    """A condition as one vector: the sum of its objects' embeddings by class / sqrt(count), plus a "set" vector where the count is above 1; null is its own.

    What stands behind the classes are semantics, added by a linear map that is zero at initialisation.

    Args:
        num_semantics: how many numbers they are; a condition may also end with the classes, which is the same as zeros.
    """

    def __init__(self, num_classes: int, width: int, num_semantics: int = 0) -> None:
        super().__init__()
        self.classes = nn.Parameter(0.5 * torch.randn(num_classes, width))
        self.set = nn.Parameter(0.5 * torch.randn(width))
        self.null = nn.Parameter(torch.zeros(width))
        self.semantics = nn.Linear(num_semantics, width, bias=False) if num_semantics else None
        if self.semantics:
            nn.init.zeros_(self.semantics.weight)

    def forward(self, y: Float[Tensor, "b _"]) -> Float[Tensor, "b d"]:
        y, sem = y.to(self.classes.dtype).split([len(self.classes), y.shape[1] - len(self.classes)], dim=1)
        count = y.sum(1, keepdim=True)
        embedded = y @ self.classes / count.clamp(min=1).sqrt() + (count > 1) * self.set
        embedded = torch.where(count == 0, self.null, embedded)
        return embedded + self.semantics(sem) if self.semantics and sem.shape[1] else embedded


class DiT(Backbone):
    """Stem, blocks, and a read-out to the pixels of each token.

    t conditions every block; y only the last `class_blocks`, and the read-out. Tokens enter normalised, so that what a block adds counts beside what the
    stem says.

    Args:
        channels: of x0.
        image_size: (height, width) of x0, a multiple of the stem's stride.
        num_semantics: numbers of semantics that may stand behind the classes of a condition.
    """

    positions: Tensor

    def __init__(self, config: DiTConfig, *, channels: int, image_size: tuple[int, int], num_classes: int, num_semantics: int = 0) -> None:
        super().__init__()
        self.config, self.num_classes, self.class_share = config, num_classes, config.class_blocks / config.depth
        self.stride = stride_for(image_size, config.max_tokens)
        self.grid = (image_size[0] // self.stride, image_size[1] // self.stride)
        self.stem = Stem(channels, config.width, fine=config.stem_width, stride=self.stride)
        self.time = nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.embedding = ClassEmbedding(num_classes, config.width, num_semantics)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads, config.mlp_ratio) for _ in range(config.depth))
        self.final_modulation = nn.Linear(config.width, config.class_rank or 2 * config.width)
        nn.init.zeros_(self.final_modulation.bias)
        if config.class_rank:
            nn.init.ones_(self.final_modulation.bias[:1])
        else:
            nn.init.zeros_(self.final_modulation.weight)
        self.channels = channels
        self.read_out = ReadOut(config.width, channels * max(1, config.class_rank), fine=config.stem_width, stride=self.stride)
        self._kept = Kept[tuple[FoldedBlock, ...]]()
        self.register_buffer("positions", position_codes(self.grid, config.width), persistent=False)
        self.spec = FeatureSpec(
            image_size=image_size,
            taps=tuple(config.width for _ in config.taps),
            tap_stride=self.stride,
            stem=self.stem.widths,
            stem_strides=tuple(2**i for i in range(len(self.stem.widths))),
        )

    def _block(self, i: int) -> Block:
        block = self.blocks[i]
        assert isinstance(block, Block)
        return block

    @property
    def early(self) -> int:
        """How many blocks come before those that know y."""
        return self.config.depth - self.config.class_blocks

    def _time(self, t: Tensor) -> Tensor:
        return self.time(time_codes(t, self.config.width).to(self.final_modulation.weight.dtype))

    def _entered(self, xt: Tensor, conditioning: Tensor, modulations: tuple[Tensor, ...] = ()) -> Hidden:
        tokens, maps = self.stem(xt)
        tokens = tokens.flatten(2).transpose(1, 2)
        return Hidden(F.layer_norm(tokens, tokens.shape[-1:]) + self.positions, conditioning, Features((), maps), modulations)

    def prefix(self, xt: Tensor, t: Tensor) -> Hidden:
        return self._run(self._entered(xt, self._time(t)), range(self.early))

    def stem_features(self, xt: Tensor) -> Features:
        return Features((), self.stem.maps(xt))

    def clean_features(self, x0: Tensor) -> Features:
        if torch.is_grad_enabled():
            return super().clean_features(x0)
        dtype = torch.get_autocast_dtype(x0.device.type) if torch.is_autocast_enabled(x0.device.type) else x0.dtype
        folded = self._kept((dtype, *weights_state(self)), lambda: self._folded(dtype))
        return self._run(self._entered(x0, x0.new_zeros(len(x0), 0)), range(self.config.depth), folded).features

    def _folded(self, dtype: torch.dtype) -> tuple[FoldedBlock, ...]:
        """The blocks at t = 0, without a condition."""
        with torch.autocast(self.positions.device.type, enabled=False):
            time = self._time(self.positions.new_zeros(1))
            both = time + self.embedding.null
            blocks = (self._block(i) for i in range(self.config.depth))
            folded = (block.folded(block.modulation(F.silu(time if i < self.early else both))[0]) for i, block in enumerate(blocks))
            return tuple(block.to(dtype) for block in folded)

    def _conditioned(self, hidden: Hidden, y: Tensor | None) -> Hidden:
        return replace(hidden, conditioning=hidden.conditioning + (self.embedding.null if y is None else self.embedding(y)))

    def suffix(self, hidden: Hidden, y: Tensor | None) -> Hidden:
        return self._run(self._conditioned(hidden, y), range(self.early, self.config.depth))

    @classmethod
    def together(cls, trunks: Sequence[Backbone], passes: Sequence[Pass]) -> list[Hidden]:
        each = [trunk for trunk in trunks if isinstance(trunk, cls)]
        first, sizes = each[0], [len(asked.xt) for asked in passes]
        blocks = [JoinedBlock.of([trunk._block(i) for trunk in each], sizes) for i in range(first.config.depth)]
        begun = [trunk._entered(asked.xt, trunk._time(asked.t)) for trunk, asked in zip(each, passes, strict=True)]
        known = [trunk._conditioned(hidden, asked.y) for trunk, hidden, asked in zip(each, begun, passes, strict=True)]
        whole = first._run(Hidden.joined(begun), range(first.early), blocks)
        whole = replace(whole, conditioning=Hidden.joined(known).conditioning)
        return first._run(whole, range(first.early, first.config.depth), blocks).split(known)

    def modulations(self, t: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        of_t = F.silu(time := self._time(t))
        of_both = F.silu(time + self.embedding(y))
        return (*(self._block(i).modulation(of_t if i < self.early else of_both) for i in range(self.config.depth)), self.final_modulation(of_both))

    def modulated(self, xt: Tensor, modulations: tuple[Tensor, ...]) -> Hidden:
        return self._run(self._entered(xt, xt.new_zeros(len(xt), 0), modulations), range(self.config.depth))

    def _run(self, hidden: Hidden, which: range, instead: Sequence[FoldedBlock | JoinedBlock] = ()) -> Hidden:
        """Through some of the blocks, or what stands for them."""
        tokens, taps = hidden.tokens, list(hidden.features.taps)
        for i in which:
            block = instead[i] if instead else self._block(i)
            if isinstance(block, FoldedBlock):
                tokens = block(tokens)
            else:
                tokens = block(tokens, hidden.modulations[i] if hidden.modulations else block.modulation(F.silu(hidden.conditioning)))
            if i + 1 in self.config.taps:
                taps.append(F.layer_norm(tokens, tokens.shape[-1:]).transpose(1, 2).unflatten(2, self.grid))
        return replace(hidden, tokens=tokens, features=Features(tuple(taps), hidden.features.stem))

    def decode(self, hidden: Hidden) -> Tensor:
        final = hidden.modulations[-1] if hidden.modulations else self.final_modulation(F.silu(hidden.conditioning))
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
