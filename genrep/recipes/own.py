"""A recipe for a user's own folder, chosen by looking at it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from genrep.augmentation import Augmentation
from genrep.backbones import DiTConfig
from genrep.config import Config, DataConfig
from genrep.datasets.glance import Glance, glance
from genrep.model_config import ModelConfig
from genrep.recipes.fashion import demo

LARGEST_PX, SMALLEST_PX = 128, 16
"""Of the longer side that is chosen, and of either. Larger ones are set by hand."""
FINE_STRIDE = 8
"""The stem's, at the most: larger pictures are made so small that the trunk can take so fine a grid of tokens, which a CPU trains in an hour."""
LARGE_PX = 48
"""Larger pictures need so much more for a posterior that half as many judge gates and calibrate."""
MOST_PROPOSALS = 32
"""Boxes that are looked at twice; a few more than most pictures have objects, up to this."""
MOVED = 1 / 16
"""How far perception's images are moved, of their shorter side; those in colour are mirrored, too."""
PRIOR_LEAST = 900
"""Of fewer pictures p(semantics | classes) is learnt as long as of so many; of more, each is seen as often as in the demo, which has thousands."""
VISITS, FEWEST, MOST = 10, 8_000, 40_000
"""Each picture comes so often in stage 2, but there are at least, and at most, so many images; stage 1 has a quarter of them."""


def own(folder: Path, begun: ModelConfig | None = None) -> tuple[Config, str]:
    """The demo's recipe for a folder: size, colours, tasks and length by what is in it, and a line that says what was chosen.

    Args:
        begun: of a model that training begins from, whose size and colours pictures are then given.
    Raises:
        ValueError: nothing in it can be read.
    """
    seen, base = glance(folder), demo()
    assert isinstance(base.model.trunk, DiTConfig)
    size = begun.image_size if begun else model_size(seen.size, max_tokens=base.model.trunk.max_tokens)
    codec = begun.codec if begun else "grey" if seen.is_grey else "pixels"
    images = min(MOST, max(FEWEST, VISITS * seen.num_pictures)) // 32 * 32
    proposals = min(MOST_PROPOSALS, max(base.model.proposals, seen.num_objects * 5 // 4))
    fewer = base.model.proposals / proposals  # a crowded picture teaches, and costs, as much more
    autoencoder = begun.autoencoder if begun else None
    model, evaluation = replace(base.model, image_size=size, codec=codec, autoencoder=autoencoder, proposals=proposals), base.eval
    glimpses = {name: round(getattr(base.train, name) * fewer) for name in ("stage1_glimpses", "glimpses")}
    if seen.layout == "depth-pairs":
        model = replace(model, tasks=("classification", "depth"), depth="metric")
    elif seen.several_classes and not seen.num_objects:
        model, evaluation = replace(model, tasks=("multilabel",)), replace(base.eval, num_scene_samples=base.eval.num_samples)
    config = replace(
        base,
        name="own",
        data=DataConfig(sets=(str(folder),)),
        model=model,
        objective=replace(
            base.objective,
            augment=Augmentation(shift_px=round(MOVED * min(size)), mirror=not seen.is_grey),
            gate_images=round(base.objective.gate_images * fewer / (2 if max(size) > LARGE_PX else 1)),
            prior_steps=round(base.objective.prior_steps * min(1.0, max(PRIOR_LEAST, seen.num_pictures) / base.objective.prior_images)),
        ),
        train=replace(base.train, best_by="mean", stage1_images=images // 4, stage2_images=images, **glimpses),
        eval=evaluation,
    )
    return config, _line(folder, seen, config, tasks_chosen=model.tasks != base.model.tasks)


def model_size(size: tuple[int, int], *, max_tokens: int) -> tuple[int, int]:
    """(height, width) in pixels that a model is given for pictures of this size: their shape, at most as large as the trunk takes with `FINE_STRIDE`.

    >>> model_size((480, 640), max_tokens=192), model_size((28, 28), max_tokens=192), model_size((256, 256), max_tokens=192)
    ((96, 128), (28, 28), (104, 104))
    """
    most = max_tokens * FINE_STRIDE**2
    scale = min(1.0, LARGEST_PX / max(size), math.sqrt(most / math.prod(size)))
    for multiple, cut in ((4, round), (FINE_STRIDE, round), (FINE_STRIDE, math.floor)):
        height, width = (max(SMALLEST_PX, cut(scale * side / multiple) * multiple) for side in size)
        if height * width <= max_tokens * multiple**2:
            break
    return height, width


def _line(folder: Path, seen: Glance, config: Config, *, tasks_chosen: bool) -> str:
    (height, width), colours = seen.size, "grey" if seen.is_grey else "in colour"
    held = ", with any number of classes" if seen.several_classes else ""
    if seen.num_objects:
        held = f", most with {seen.num_objects} object{'s' if seen.num_objects > 1 else ''} or fewer"
    settings = {
        "model.image_size": ",".join(map(str, config.model.image_size)),
        "model.codec": config.model.codec,
        "model.proposals": config.model.proposals,
        "objective.augment.shift_px": config.objective.augment.shift_px,
        "objective.augment.mirror": str(config.objective.augment.mirror).lower(),
        "train.stage2_images": config.train.stage2_images,
    }
    if tasks_chosen:
        settings["model.tasks"] = ",".join(config.model.tasks)
    chosen = " ".join(f"--{name} {value}" for name, value in settings.items())
    return f"{folder}: {seen.num_pictures:,} pictures of about {height} x {width} px, {colours}{held}; chosen for them: {chosen}"
