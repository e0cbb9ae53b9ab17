"""What a trunk is: a network on (xt, t, y) that offers features on the way, in a class-free prefix and a suffix that knows y."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genrep.types import Features, FeatureSpec

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class TrunkConfig(ABC):
    """Size of a trunk, of any kind."""

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
    taps: tuple[int, ...] = (2, 4, 6)
    """After which blocks (counted from 1) features are taken for the heads."""

    @abstractmethod
    def stride(self, image_size: tuple[int, int]) -> int:
        """Places of an x0 of this (height, width), down and across, that a token stands for.

        Raises:
            ValueError: it cannot be cut into tokens.
        """

    def __post_init__(self) -> None:
        if self.width % math.lcm(8, 4 * self.num_heads):
            raise ValueError(f"`width` must be a multiple of 8 and of 4 * num_heads = {4 * self.num_heads}; found {self.width}.")
        if self.stem_width % 8:
            raise ValueError(f"`stem_width` must be a multiple of 8; found {self.stem_width}.")
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 1 or self.taps[-1] > self.depth:
            raise ValueError(f"`taps` must be increasing block numbers in 1..depth = {self.depth}; found {self.taps}.")


@dataclass(frozen=True)
class Pass:
    """What a trunk is to be run on."""

    xt: Float[Tensor, "b c h w"]
    t: Float[Tensor, " b"]
    y: Float[Tensor, "b _"] | None
    """As in `Backbone.suffix`."""


@dataclass(frozen=True)
class Hidden:
    """A pass half way: token states, the conditioning vector, and the features gathered so far."""

    tokens: Float[Tensor, "b n d"]
    conditioning: Float[Tensor, "b _"]
    """What t, and later y, say to all blocks; empty where the modulations are known."""
    features: Features
    modulations: tuple[Float[Tensor, "b _"], ...] = ()
    """What the conditioning does to each block and to the read-out, where that is known beforehand (`Backbone.modulations`)."""

    def repeat(self, num: int) -> Hidden:
        """Each row `num` times in a row, with the stem's finest map for the read-out but without the taps."""
        finest = tuple(fine.repeat_interleave(num, 0) for fine in self.features.stem[:1])
        return Hidden(self.tokens.repeat_interleave(num, 0), self.conditioning.repeat_interleave(num, 0), Features((), finest))

    @classmethod
    def joined(cls, some: Sequence[Hidden]) -> Hidden:
        """The rows of several one behind the other, without features."""
        return cls(torch.cat([one.tokens for one in some]), torch.cat([one.conditioning for one in some]), Features((), ()))

    def split(self, some: Sequence[Hidden]) -> list[Hidden]:
        """The rows of each of those that were joined, with the stem's maps that it had."""
        sizes = [len(one.tokens) for one in some]
        taps = [tap.split(sizes) for tap in self.features.taps]
        parts = zip(some, self.tokens.split(sizes), strict=True)
        return [replace(one, tokens=tokens, features=replace(one.features, taps=tuple(tap[i] for tap in taps))) for i, (one, tokens) in enumerate(parts)]


Asking = Generator[Pass, Hidden, Found]
"""A computation that asks for one pass of a trunk on its way, and does not mind what else the trunk is run on at the same time."""


class Backbone(nn.Module, ABC):
    """A trunk in three steps, `decode(suffix(prefix(xt, t), y))`, so that one prefix can serve many conditions.

    The perception heads use the features of a pass with y = null and never call `decode`.
    """

    spec: FeatureSpec
    """Shape of the features."""
    stride: int
    """Places of x0, in height and in width, that a token stands for."""
    num_classes: int
    """Of the condition y."""
    class_share: float
    """Share of a pass that is spent in `suffix`, which is what one more condition for the same noised image costs."""

    @abstractmethod
    def prefix(self, xt: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]) -> Hidden:
        """The part that does not see y."""

    @abstractmethod
    def stem_features(self, xt: Float[Tensor, "b c h w"]) -> Features:
        """The stem's maps alone, of the shapes that `spec` says, without taps: a small part of the cost."""

    @abstractmethod
    def suffix(self, hidden: Hidden, y: Float[Tensor, "b _"] | None) -> Hidden:
        """The part that does; y is how many objects of each class, zeros = null, and semantics behind it, zeros = none, where the trunk is told of them;
        None: null for all, and no class embedding is touched."""

    @abstractmethod
    def decode(self, hidden: Hidden) -> Float[Tensor, "b c h w"]:
        """The raw prediction (see `parametrization.PREDICTIONS`), zero at initialisation."""

    def answers(self, hidden: Hidden, candidates: Float[Tensor, "b m _"]) -> Float[Tensor, "b m c h w"]:
        """`decode(suffix(hidden, y))` under several conditions of each image of a prefix; a trunk may have a quicker way to them."""
        num = candidates.shape[1]
        return self.decode(self.suffix(hidden.repeat(num), candidates.flatten(0, 1))).unflatten(0, (-1, num))

    @abstractmethod
    def modulations(self, t: Float[Tensor, " n"], y: Float[Tensor, "n _"]) -> tuple[Float[Tensor, "n _"], ...]:
        """All that a pass needs to know of t and y: what they do to each block, and to the read-out."""

    @abstractmethod
    def modulated(self, xt: Float[Tensor, "b c h w"], modulations: tuple[Float[Tensor, "b _"], ...]) -> Hidden:
        """`forward` with modulations that are known already."""

    @classmethod
    def together(cls, trunks: Sequence[Backbone], passes: Sequence[Pass]) -> list[Hidden]:
        """Passes through trunks of the same weights, each with gradients of its own; a trunk may make one of them."""
        return [trunk(asked.xt, asked.t, asked.y) for trunk, asked in zip(trunks, passes, strict=True)]

    def clean_features(self, x0: Float[Tensor, "b c h w"]) -> Features:
        """The features of a noise-free pass without a condition; a trunk may have a quicker way to them."""
        return self(x0, x0.new_zeros(len(x0)), None).features

    def forward(self, xt: Tensor, t: Tensor, y: Tensor | None) -> Hidden:
        """`suffix(prefix(xt, t), y)`."""
        return self.suffix(self.prefix(xt, t), y)


def answer(trunks: Sequence[Backbone], asking: Sequence[Asking[Found]]) -> list[Found]:
    """What computations come to, each with the pass of its trunk that it asks for; of trunks of one kind, with the same weights.

    Raises:
        RuntimeError: one of them asks for another pass.
    """
    passes = [next(one) for one in asking]
    make = type(trunks[0]).together if len(trunks) > 1 else Backbone.together
    return [_ended(one, hidden) for one, hidden in zip(asking, make(trunks, passes), strict=True)]


def _ended(asking: Asking[Found], hidden: Hidden) -> Found:
    try:
        asking.send(hidden)
    except StopIteration as end:
        found: Found = end.value
        return found
    raise RuntimeError("a computation may ask for one pass of its trunk; found a second.")
