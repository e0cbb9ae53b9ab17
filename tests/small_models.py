"""GenRep with a few thousand weights, and ways to wake what is zero at initialisation, so that nothing is right by accident."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from genrep.backbones import DiTConfig
from genrep.model import GenRep
from genrep.model_config import ModelConfig
from genrep.modulators import DrawnSemantics

Module = TypeVar("Module", bound=nn.Module)

TRUNK = DiTConfig(width=16, depth=3, num_heads=2, stem_width=8, class_blocks=2, taps=(1, 3))


def small_config(**changes: Any) -> ModelConfig:
    """Four classes, grey, 16 x 16 px: 16 tokens."""
    return ModelConfig(**{"class_names": ("a", "b", "c", "d"), "image_size": (16, 16), "trunk": TRUNK, **changes})


def awake(module: Module, seed: int = 0) -> Module:
    """The module with every weight moved by N(0, 0.1^2)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return module


def small_model(seed: int = 0, **changes: Any) -> GenRep:
    """An awake model; the same for the same seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = awake(GenRep(small_config(**changes)), seed)
    if isinstance(model.denoiser.modulator, DrawnSemantics):
        model.denoiser.modulator.prior.learnt.fill_(1)
    return model


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
