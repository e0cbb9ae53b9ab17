"""The optimizer, its schedule, and the momentum teacher."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from genrep.config import TrainConfig
from genrep.model import GenRep


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Fused AdamW; vectors (biases, embeddings of one dimension, scales) are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def lr_at(step: int, num_steps: int, config: TrainConfig) -> float:
    """Learning rate of a stage's step: linear warm-up, then a cosine to `final_lr_fraction` of the peak."""
    warmup = max(1, round(config.warmup_fraction * num_steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return config.lr * (config.final_lr_fraction + (1 - config.final_lr_fraction) * (1 + math.cos(math.pi * progress)) / 2)


def make_teacher(model: GenRep) -> GenRep:
    """A copy that no gradient reaches."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: GenRep, model: GenRep, *, updates: int, largest: float) -> None:
    """theta_sem <- m theta_sem + (1 - m) theta, m = min(largest, (1 + n) / (10 + n)) after n updates."""
    momentum = min(largest, (1 + updates) / (10 + updates))
    torch._foreach_lerp_(list(teacher.parameters()), [p.detach() for p in model.parameters()], 1 - momentum)
