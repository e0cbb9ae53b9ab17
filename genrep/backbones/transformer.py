"""What trunks of transformer blocks share: blocks that t and y modulate, one after the other, whatever comes before and after them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones.base import Backbone, Hidden, Pass, TrunkConfig
from genrep.backbones.blocks import Block, FoldedBlock
from genrep.backbones.ends import Stem
from genrep.backbones.joined import JoinedBlock
from genrep.layers import Kept, weights_state
from genrep.types import Features, FeatureSpec


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


class Transformer(Backbone):
    """Tokens through blocks, all of which know t, and those from `early` on y. What makes the tokens, what is told of t, and what is read out of them is a
    trunk's own."""

    config: TrunkConfig
    early: int
    """How many blocks come before those that know y."""
    grid: tuple[int, int]
    """(height, width) of the tokens."""
    stem: Stem
    embedding: ClassEmbedding
    blocks: nn.ModuleList
    final_modulation: nn.Linear
    """What t and y do to what is read out."""
    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._kept = Kept[tuple[FoldedBlock, ...]]()

    @abstractmethod
    def _time(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """What the conditioning is told of t."""

    @abstractmethod
    def _tokens(self, xt: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b n d"], tuple[Float[Tensor, "b _ _ _"], ...]]:
        """What enters the blocks, positions included, and the stem's maps."""

    def _specification(self, image_size: tuple[int, int]) -> FeatureSpec:
        return FeatureSpec(
            image_size=image_size,
            taps=tuple(self.config.width for _ in self.config.taps),
            tap_stride=self.stride,
            stem=self.stem.widths,
            stem_strides=tuple(2**i for i in range(len(self.stem.widths))),
        )

    def _block(self, i: int) -> Block:
        block = self.blocks[i]
        assert isinstance(block, Block)
        return block

    def _entered(self, xt: Tensor, conditioning: Tensor, modulations: tuple[Tensor, ...] = ()) -> Hidden:
        tokens, maps = self._tokens(xt)
        return Hidden(tokens, conditioning, Features((), maps), modulations)

    def prefix(self, xt: Tensor, t: Tensor) -> Hidden:
        return self._run(self._entered(xt, self._time(t)), range(self.early))

    def stem_features(self, xt: Tensor) -> Features:
        return Features((), self.stem.maps(xt))

    def clean_features(self, x0: Tensor) -> Features:
        if torch.is_grad_enabled():
            return super().clean_features(x0)
        dtype = torch.get_autocast_dtype(x0.device.type) if torch.is_autocast_enabled(x0.device.type) else x0.dtype
        folded = self._kept((dtype, *weights_state(self)), lambda: self._folded(dtype))
        return self._run(self._entered(x0, x0.new_zeros(len(x0), 0)), range(self.config.taps[-1]), folded).features

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

    def _final(self, hidden: Hidden) -> Float[Tensor, "b _"]:
        """The read-out's modulation."""
        return hidden.modulations[-1] if hidden.modulations else self.final_modulation(F.silu(hidden.conditioning))
