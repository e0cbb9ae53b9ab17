"""Classifier-free guidance: a denoiser that wraps a denoiser. Not a sampler; it serves them all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrep.types import Denoise, Denoised


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Exaggerates what the condition changes; rows without a condition stay as they are.

        x0_hat = x0_null + scale * (x0_y - x0_null)

    which is the same extrapolation of eps, u or v. The standard deviation is the conditional one.

    Args:
        denoise: the denoiser to guide.
        scale: 0 null, 1 conditional (no second evaluation), above 1 guided.
    Source: Ho and Salimans 2022, arXiv:2207.12598, eq. (6), whose w is scale - 1.
    """

    denoise: Denoise
    scale: float

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        if self.scale == 1:
            return self.denoise(xt, t, y)
        both = self.denoise(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([y, torch.zeros_like(y)]))
        x0_y, x0_null = both.x0_hat.chunk(2)
        return Denoised(torch.lerp(x0_null, x0_y, self.scale), both.log_std_scale[: len(xt)])
