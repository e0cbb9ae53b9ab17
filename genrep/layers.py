"""Layers that trunk and heads share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

Made = TypeVar("Made")


def wide(x: Tensor) -> Tensor:
    """In float32 at least: what is summed, exponentiated or compared is not left in half precision."""
    return x if x.dtype == torch.float64 else x.float()


WITHOUT_FLOAT64 = {"mps"}
"""Types of devices."""


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has none."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def precise(x: Tensor) -> Tensor:
    """As precise as its device computes: what is summed over millions, or fitted."""
    return x.to(widest(x.device))


_num_steps = 0


def _count_step(*_: object) -> None:
    global _num_steps
    _num_steps += 1


register_optimizer_step_post_hook(_count_step)  # a fused optimizer's step leaves no trace in its parameters (torch 2.14)


def weights_state(module: nn.Module) -> tuple[object, ...]:
    """Which weights a module has, how often each has been written, and how often any optimizer has stepped: another one where anything has changed.

    What is written through `.data` goes unnoticed. Of a module that is being exported nothing is known.
    """
    if torch.compiler.is_exporting():
        return ()
    return (_num_steps, *((p.data_ptr(), 0 if p.is_inference() else p._version) for p in module.parameters()))


class Kept(Generic[Made]):
    """Something made of weights, until they change; what was there when export began is exported."""

    def __init__(self) -> None:
        self._kept: tuple[object, Made] | None = None

    def __call__(self, state: object, make: Callable[[], Made]) -> Made:
        """What was made in this state (see `weights_state`), or is made now."""
        kept = self._kept
        if kept is None or (kept[0] != state and not torch.compiler.is_exporting()):
            kept = self._kept = (state, make())
        return kept[1]


def time_codes(t: Float[Tensor, " b"], width: int, *, fastest: float = 1000.0, ratio: float = 10_000.0) -> Float[Tensor, "b d"]:
    """Sines and cosines of f t, for f from `fastest` down to nearly a `ratio`-th of it."""
    frequency = torch.exp(-math.log(ratio) * torch.arange(width // 2, device=t.device) / (width // 2))
    phase = fastest * t[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class StandardConv2d(nn.Conv2d):
    """A convolution whose filters have zero mean and unit norm, times a learned gain per channel.

    Where no gradient is asked for they are kept until the weights change.

    Source: weight standardisation, Qiao et al. 2019, arXiv:1903.10520.
    """

    def __init__(self, before: int, after: int, size: int, *, stride: int = 1) -> None:
        super().__init__(before, after, size, stride=stride, padding=1)
        self.gain = nn.Parameter(torch.ones(after, 1, 1, 1))
        self._kept = Kept[Tensor]()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d hh ww"]:
        filters = self._standard() if torch.is_grad_enabled() else self._kept(weights_state(self), self._standard)
        return F.conv2d(x, filters, self.bias, self.stride, self.padding)

    def _standard(self) -> Tensor:
        standard = F.layer_norm(self.weight, self.weight.shape[1:]) * self.weight[0].numel() ** -0.5
        return (self.gain * standard).to(memory_format=torch.channels_last)


class GroupNorm(nn.GroupNorm):
    """Where a CPU computes in half precision, over maps in the usual layout: over channels last its kernel takes six times as long (torch 2.14)."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if x.device.type == "cpu" and x.dtype == torch.bfloat16:
            return super().forward(x.contiguous()).to(memory_format=torch.channels_last)
        return super().forward(x)


class Halving(nn.Module):
    """A strided convolution and a residual one."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = StandardConv2d(before, after, 4, stride=2)
        self.norm = GroupNorm(8, after)
        self.conv = StandardConv2d(after, after, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d hh ww"]:
        x = self.down(x)
        return x + self.conv(F.silu(self.norm(x)))


class Residual(nn.Module):
    """Two convolutions beside a way straight through.

    x + gain * conv(silu(norm(conv(silu(norm(x))))))
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(GroupNorm(8, width) for _ in range(2))
        self.convs = nn.ModuleList(StandardConv2d(width, width, 3) for _ in range(2))
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        seen = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            seen = conv(F.silu(norm(seen)))
        return x + self.gain * seen
