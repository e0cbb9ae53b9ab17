"""The optimizers, their schedule, and the momentum teacher."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from genrep.config import TrainConfig
from genrep.model import GenRep
from genrep.processes import brought
from genrep.training.muon import WideMuon

OF_MUON = re.compile(r"denoiser\.(trunk\.(blocks|time)|modulator\.embed)\.|heads\.\w+\.fuse\.|projector\.")
"""The trunk's blocks, what conditions them, and what reads them."""


KEPT: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.Muon: ("momentum_buffer",),
    WideMuon: ("momentum_buffer",),
}
"""What an optimizer knows of a parameter: `step` is a number, all else of the parameter's shape."""


def make_optimizers(model: GenRep, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the trunk's blocks and of what stands before and behind them, where the configuration says so, and fused AdamW for all else.

    Muon makes each update's singular values alike, so that a matrix does not grow along one direction until all tokens are the same; its step is scaled
    to the size that AdamW's has. Where training is in bfloat16, so is that. Readers that grow so (AdamW's do) make the blocks follow.
    Vectors (biases, scales) are not decayed.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scale after Liu et al. 2025, arXiv:2502.16982.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    of_muon = {name for name, p in trainable.items() if config.muon and p.ndim == 2 and OF_MUON.match(name)}
    matrices, others = ([p for name, p in trainable.items() if (name in of_muon) == chosen] for chosen in (True, False))
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    muon = torch.optim.Muon if config.bf16 else WideMuon
    return (muon(matrices, lr=config.lr, weight_decay=config.muon_decay, adjust_lr_fn="match_rms_adamw"), adam) if matrices else (adam,)


def take_step(optimizers: Sequence[torch.optim.Optimizer], lr: float, *, elsewhere: Collection[Tensor] = ()) -> None:
    """An update by all of them at one learning rate.

    Args:
        elsewhere: parameters that other processes update: nothing is known of them here, even where a checkpoint knew it.
    """
    for optimizer in optimizers:
        for parameter in elsewhere:
            optimizer.state.pop(parameter, None)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()


def state_of(optimizers: Sequence[torch.optim.Optimizer], owners: Mapping[Tensor, int]) -> dict[str, Tensor]:
    """What all processes' optimizers know, in the first one, by the optimizer's number, the parameter's in it, and name.

    Args:
        owners: which process alone updates a parameter; of all others the first knows enough.
    """
    found: dict[str, Tensor] = {}
    for i, optimizer in enumerate(optimizers):
        for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
            known = optimizer.state.get(parameter, {})
            if owners.get(parameter):
                known = {name: brought(known.get(name, _blank(name, parameter)), owners[parameter]) for name in KEPT[type(optimizer)]}
            found |= {f"{i}.{number}.{name}": value for name, value in known.items()}
    return found


def _blank(name: str, parameter: Tensor) -> Tensor:
    """Room for what an optimizer knows by that name; `step` is float32 whatever the weights are."""
    return torch.zeros((), device=parameter.device) if name == "step" else torch.zeros_like(parameter)


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
    """theta_sem <- m theta_sem + (1 - m) theta, m = min(largest, (1 + n) / (10 + n)) after n updates; what is no parameter as it is."""
    model.denoiser.modulator.settle()
    momentum = min(largest, (1 + updates) / (10 + updates))
    torch._foreach_lerp_(list(teacher.parameters()), [p.detach() for p in model.parameters()], 1 - momentum)
    for kept, now in zip(teacher.buffers(), model.buffers(), strict=True):
        kept.copy_(now)
