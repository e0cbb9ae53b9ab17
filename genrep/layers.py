"""Layers that trunk and heads share."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class StandardConv2d(nn.Conv2d):
    """A convolution whose filters have zero mean and unit norm, times a learned gain per channel.

    Source: weight standardisation, Qiao et al. 2019, arXiv:1903.10520.
    """

    def __init__(self, before: int, after: int, size: int, *, stride: int = 1) -> None:
        super().__init__(before, after, size, stride=stride, padding=1)
        self.gain = nn.Parameter(torch.ones(after, 1, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d hh ww"]:
        standard = F.layer_norm(self.weight, self.weight.shape[1:]) * self.weight[0].numel() ** -0.5
        return F.conv2d(x, self.gain * standard, self.bias, self.stride, self.padding)
