"""How semantics are distributed given the classes: a small flow of its own."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.layers import time_codes, wide
from genrep.randomness import SampleGenerator

WIDTH, DEPTH, TIME_WIDTH = 256, 2, 32
FASTEST = 20.0
"""Of the sines and cosines of t that it sees, down to 1: it is smooth in t."""
NUM_STEPS = 5
"""Of Heun's method, two evaluations each; thirty draw no better ones."""


class SemanticPrior(nn.Module):
    """p(sem | classes) of vectors of mean 0 and variance 1, as a rectified flow: u(xt, t, y) by a network without attention.

    What it draws is none (zeros) as long as it has not learnt anything (`learnt`).

    Args:
        num: length of sem.
    Source: Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003.
    """

    learnt: Tensor

    def __init__(self, num: int, num_classes: int) -> None:
        super().__init__()
        self.num = num
        self.enter, self.time, self.classes = nn.Linear(num, WIDTH), nn.Linear(TIME_WIDTH, WIDTH), nn.Linear(num_classes + 1, WIDTH)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(DEPTH))
        self.leave = nn.Linear(WIDTH, num)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("learnt", torch.zeros(()))

    def forward(self, xt: Float[Tensor, "b s"], t: Float[Tensor, " b"], y: Float[Tensor, "b k"]) -> Float[Tensor, "b s"]:
        """u, the slope of the path from data at t = 0 to noise at t = 1."""
        count = y.sum(1, keepdim=True)
        told = torch.cat([y / count.clamp(min=1).sqrt(), (count > 1).to(y)], 1).to(xt)
        hidden = self.enter(xt) + self.time(time_codes(t, TIME_WIDTH, fastest=FASTEST, ratio=FASTEST).to(xt)) + self.classes(told)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out: Tensor = self.leave(hidden)
        return out

    def loss(self, sem: Float[Tensor, "b s"], y: Float[Tensor, "b k"], t: Float[Tensor, " b"], noise: Float[Tensor, "b s"]) -> Float[Tensor, ""]:
        """Mean squared error of u."""
        xt = torch.lerp(sem, noise, t[:, None])
        return F.mse_loss(self(xt, t, y), noise - sem)

    @torch.no_grad()
    def draw(self, y: Float[Tensor, "b k"], generator: SampleGenerator) -> Float[Tensor, "b s"]:
        """Semantics of images of these classes, by Heun's method."""
        if not bool(self.learnt):
            return self.leave.weight.new_zeros(len(y), self.num)
        with torch.autocast(y.device.type, enabled=False):
            x = wide(generator.normal(self.num)).to(self.leave.weight.dtype)
            times = torch.linspace(1, 0, NUM_STEPS + 1).tolist()
            slope = self(x, x.new_full((len(x),), 1.0), y)
            for t, s in pairwise(times):
                ahead = x + (s - t) * slope
                after = self(ahead, x.new_full((len(x),), s), y)
                x = x + (s - t) / 2 * (slope + after)
                slope = self(x, x.new_full((len(x),), s), y) if s > 0 else after
            return F.layer_norm(x, x.shape[-1:])
