"""A transformer block under a condition; and folded: where the condition is constant, as in a noise-free pass without a class, what it does is put into the
weights, which leaves a plain vision transformer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T) v, [b heads n d].

    On a CPU with gradients as two products: there the fused kernel's backward pass takes over six times as long at 64 tokens (torch 2.14, bf16).
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        return (query @ key.transpose(-1, -2)).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


@dataclass(frozen=True)
class Manner:
    """How a block computes with its weights."""

    num_heads: int
    """Of its attention."""
    normalised: bool = True
    """Whether queries and keys are (Dehghani et al. 2023)."""
    approximate: str = "none"
    """How its GELU is computed, in torch's words: exactly, or by a tanh."""


def attention(projected: Float[Tensor, "b n _"], query_scale: Float[Tensor, "*b h"], manner: Manner) -> Float[Tensor, "b n d"]:
    """Multi-head self-attention of projected tokens; what the heads found, side by side."""
    each = projected.unflatten(-1, (3, manner.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = (F.layer_norm(each[:2], each.shape[-1:]) if manner.normalised else each[:2]).unbind()
    query = query * (query_scale * each.shape[-1] ** -0.5).to(query.dtype)  # divided by sqrt(d) before there are n x n of them
    return attend(query, key, each[2]).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Affine:
    """A linear layer with something folded into it."""

    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"]

    @classmethod
    def after(cls, layer: nn.Linear, shift: Float[Tensor, " i"], scale: Float[Tensor, " i"]) -> Affine:
        """layer(x (1 + scale) + shift)."""
        return cls(layer.weight * (1 + scale), torch.addmv(layer.bias, layer.weight, shift))

    @classmethod
    def before(cls, layer: nn.Linear, gate: Float[Tensor, " o"]) -> Affine:
        """gate layer(x)."""
        return cls(layer.weight * gate[:, None], layer.bias * gate)

    def __call__(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class FoldedBlock:
    """tokens + proj(attention(qkv(norm(tokens)))), then + fc2(gelu(fc1(norm(tokens))))."""

    qkv: Affine
    proj: Affine
    fc1: Affine
    fc2: Affine
    query_scale: Float[Tensor, " h"]
    manner: Manner

    def to(self, dtype: torch.dtype) -> FoldedBlock:
        """With weights of a type that they need not be cast to again."""
        qkv, proj, fc1, fc2 = (Affine(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in (self.qkv, self.proj, self.fc1, self.fc2))
        return replace(self, qkv=qkv, proj=proj, fc1=fc1, fc2=fc2)

    def __call__(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        found = attention(self.qkv(F.layer_norm(tokens, tokens.shape[-1:])), self.query_scale, self.manner)
        tokens = tokens + self.proj(found)
        hidden = F.gelu(self.fc1(F.layer_norm(tokens, tokens.shape[-1:])), approximate=self.manner.approximate)
        return tokens + self.fc2(hidden)


def modulate(tokens: Float[Tensor, "b n d"], shift: Float[Tensor, "b 1 d"], scale: Float[Tensor, "b 1 d"]) -> Float[Tensor, "b n d"]:
    """norm(tokens) (1 + scale) + shift, of each image its own."""
    return torch.addcmul(shift, F.layer_norm(tokens, tokens.shape[-1:]), 1 + scale)


@runtime_checkable
class Layers(Protocol):
    """What a block is made of."""

    @property
    def manner(self) -> Manner: ...
    @property
    def query_scale(self) -> Float[Tensor, "*b h"]: ...
    @property
    def qkv(self) -> Callable[[Tensor], Tensor]: ...
    @property
    def proj(self) -> Callable[[Tensor], Tensor]: ...
    @property
    def fc1(self) -> Callable[[Tensor], Tensor]: ...
    @property
    def fc2(self) -> Callable[[Tensor], Tensor]: ...


def through(block: Layers, tokens: Float[Tensor, "b n d"], modulation: Float[Tensor, "b _"]) -> Float[Tensor, "b n d"]:
    """Attention and MLP, each shifted, scaled and gated."""
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unflatten(1, (6, 1, -1)).unbind(1)
    found = block.proj(attention(block.qkv(modulate(tokens, shift1, scale1)), block.query_scale, block.manner))
    tokens = torch.addcmul(tokens, gate1, found)
    hidden = F.gelu(block.fc1(modulate(tokens, shift2, scale2)), approximate=block.manner.approximate)
    return torch.addcmul(tokens, gate2, block.fc2(hidden))


class Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the conditioning (adaLN-Zero).

    Source: Peebles and Xie 2023, arXiv:2212.09748, section 3.2.
    """

    def __init__(self, width: int, mlp_ratio: float, manner: Manner) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.manner = manner
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.query_scale = nn.Parameter(torch.ones(width // manner.num_heads))
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Float[Tensor, "b n d"], modulation: Float[Tensor, "b _"]) -> Float[Tensor, "b n d"]:
        return through(self, tokens, modulation)

    def folded(self, modulation: Float[Tensor, " _"]) -> FoldedBlock:
        """This block under one modulation for all."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6)
        return FoldedBlock(
            qkv=Affine.after(self.qkv, shift1, scale1),
            proj=Affine.before(self.proj, gate1),
            fc1=Affine.after(self.fc1, shift2, scale2),
            fc2=Affine.before(self.fc2, gate2),
            query_scale=self.query_scale,
            manner=self.manner,
        )
