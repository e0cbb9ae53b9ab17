"""Blocks of several trunks that have the same weights, run as one: what goes in is computed at once, but each trunk's weights have gradients of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones.blocks import Block, Manner, through


class _SharedLinear(torch.autograd.Function):
    """x w^T + b of all rows, for one w and b; backward, each copy of them is given what comes of its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int], *weights_and_biases: Tensor) -> Tensor:
        weight, bias = weights_and_biases[0].to(x.dtype), weights_and_biases[len(sizes)].to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.sizes, ctx.dtype = sizes, weights_and_biases[0].dtype
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *of_outputs: Tensor) -> tuple[Tensor | Sequence[int] | None, ...]:
        (of_output,) = of_outputs
        x, weight = ctx.saved_tensors
        of_rows = [part.flatten(0, -2) for part in of_output.split(ctx.sizes)]
        weights = [part.T @ rows.flatten(0, -2) for part, rows in zip(of_rows, x.split(ctx.sizes), strict=True)]
        biases = [part.sum(0) for part in of_rows]
        return of_output @ weight if ctx.needs_input_grad[0] else None, None, *(found.to(ctx.dtype) for found in weights + biases)


@dataclass(frozen=True)
class JoinedLinear:
    """Linear layers of the same weights, each for so many of the rows, and with a gradient from these alone."""

    layers: Sequence[nn.Linear]
    sizes: Sequence[int]

    def __call__(self, x: Float[Tensor, "b *n i"]) -> Float[Tensor, "b *n o"]:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        found: Tensor = _SharedLinear.apply(x.to(dtype), self.sizes, *(layer.weight for layer in self.layers), *(layer.bias for layer in self.layers))
        return found


@dataclass(frozen=True)
class JoinedBlock:
    """Blocks of the same weights."""

    modulation: JoinedLinear
    qkv: JoinedLinear
    proj: JoinedLinear
    fc1: JoinedLinear
    fc2: JoinedLinear
    query_scale: Float[Tensor, "b 1 1 h"]
    manner: Manner

    @classmethod
    def of(cls, blocks: Sequence[Block], sizes: Sequence[int]) -> JoinedBlock:
        """One for all, each of which has so many of the rows."""
        names = ("modulation", "qkv", "proj", "fc1", "fc2")
        layers = {name: JoinedLinear([getattr(block, name) for block in blocks], sizes) for name in names}
        scales = torch.cat([block.query_scale.expand(num, 1, 1, -1) for block, num in zip(blocks, sizes, strict=True)])
        return cls(**layers, query_scale=scales, manner=blocks[0].manner)

    def __call__(self, tokens: Float[Tensor, "b n d"], modulation: Float[Tensor, "b _"]) -> Float[Tensor, "b n d"]:
        return through(self, tokens, modulation)
