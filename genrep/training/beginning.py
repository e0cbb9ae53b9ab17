"""Where training begins: a fresh model, or what a finished one knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.model import GenRep
from genrep.model_config import ModelConfig

REMEDY = "`genrep train --init` takes the model's settings from the folder; leave `--model.*` as they are."
MEANING = ("prediction", "schedule", "codec", "trunk.taps", "trunk.num_heads")
"""Settings of a model that say what its tensors mean, not what shape they have."""


CLASSES = "denoiser.trunk.embedding.classes"
"""What a class is to the trunk."""


def among(fresh: Float[Tensor, "k d"], known: Float[Tensor, "m d"]) -> Float[Tensor, "k d"]:
    """Vectors drawn at random, in the middle of known ones, and as far from it as these are."""
    return known.mean(0) + fresh / fresh.square().mean().sqrt() * (known - known.mean(0)).square().mean().sqrt()


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Of a model's tensors by name, without making them."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in GenRep(config).state_dict().items()}


def of_classes(config: ModelConfig) -> set[str]:
    """Tensors whose shape depends on how many classes there are, and with them the whole of p(sem | classes)."""
    one_more = shapes_of(replace(config, class_names=(*config.class_names, "one more")))
    found = {name for name, shape in shapes_of(config).items() if one_more[name] != shape}
    return found | {name for name in one_more if name.startswith("denoiser.modulator.prior.")}


def learning(model: GenRep, only: Sequence[str]) -> GenRep:
    """The model, of which the heads of these tasks alone learn, or, where none is named, all."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and (not only or any(name.startswith(f"heads.{task}.") for task in only)))
    return model


@torch.no_grad()
def begin_from(model: GenRep, folder: Path) -> list[str]:
    """Give a fresh model the weights of a finished one.

    Of other classes it keeps all but what is made for each class, in the heads, the condition and the prior; of the same classes it keeps all. The condition's
    new classes lie among the old ones, as the blocks know these. Heads that the finished model lacks stay fresh. Calibrations are not taken over: they are
    fitted anew.

    Returns:
        lines that say what was kept and what is new.
    Raises:
        ValueError: the trunk, or another part that both have, is of another shape or means something else; nothing is changed.
    """
    source = GenRep.from_pretrained(folder)
    for name in MEANING:
        there, here = (attrgetter(name)(config) for config in (source.config, model.config))
        if there != here:
            raise ValueError(f"`train.init` {folder} means something else by its weights: `model.{name}` is {there} there and {here} here. {REMEDY}")
    ours, theirs = model.state_dict(), source.state_dict()
    skipped = set() if source.class_names == model.class_names else of_classes(model.config)
    kept = {name: tensor for name, tensor in theirs.items() if name in ours and name not in skipped}
    if missing := [name for name in ours if name.startswith("denoiser.") and name not in skipped and name not in theirs]:
        raise ValueError(f"`train.init` {folder} has no `{missing[0]}`: its trunk or modulator is another. `genrep train --init` takes them from the folder.")
    for name, tensor in kept.items():
        if tensor.shape != ours[name].shape:
            raise ValueError(f"`train.init` {folder} does not fit: `{name}` is {list(tensor.shape)} there and {list(ours[name].shape)} here. {REMEDY}")
    for name, tensor in kept.items():
        ours[name].copy_(tensor)
    if CLASSES in skipped and len(theirs[CLASSES]) > 1:
        ours[CLASSES].copy_(among(ours[CLASSES], theirs[CLASSES]))
    fresh = [task for task in model.config.tasks if task not in source.config.tasks]
    return [
        f"begins from {folder}: {len(kept)} of {len(ours)} tensors",
        *([f"its classes are others ({', '.join(source.class_names)}): what is made for each class is new"] if skipped else []),
        *([f"new heads: {', '.join(fresh)}"] if fresh else []),
    ]
