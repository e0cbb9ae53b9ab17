"""A recipe for a user's own folder, chosen by looking at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genrep.backbones.dit import stride_for
from genrep.config import Config, DataConfig
from genrep.datasets.glance import Glance, glance
from genrep.recipes.fashion import demo

LARGEST_PX, SMALLEST_PX = 96, 16
"""Of the longer side that is chosen, and of either: what a CPU trains in an hour. Larger ones are set by hand."""
VISITS, FEWEST, MOST = 10, 8_000, 40_000
"""Each picture comes so often in stage 2, but there are at least, and at most, so many images; stage 1 has a quarter of them."""


def own(folder: Path) -> tuple[Config, str]:
    """The demo's recipe for a folder: size, colours, tasks and length by what is in it, and a line that says what was chosen.

    Raises:
        ValueError: nothing in it can be read.
    """
    seen, base = glance(folder), demo()
    size = model_size(seen.size, max_tokens=base.model.trunk.max_tokens)
    codec = "grey" if seen.is_grey else "pixels"
    images = min(MOST, max(FEWEST, VISITS * seen.num_pictures)) // 32 * 32
    model = replace(base.model, image_size=size, codec=codec)
    if seen.layout == "depth-pairs":
        model = replace(model, tasks=("classification", "depth"), depth="metric")
    config = replace(
        base,
        name="own",
        data=DataConfig(sets=(str(folder),)),
        model=model,
        train=replace(base.train, best_by="mean", stage1_images=images // 4, stage2_images=images),
    )
    return config, _line(folder, seen, config)


def model_size(size: tuple[int, int], *, max_tokens: int) -> tuple[int, int]:
    """(height, width) in pixels that a model is given for pictures of this size: their shape, of a size that it can take and a CPU can train.

    >>> model_size((480, 640), max_tokens=192), model_size((28, 28), max_tokens=192), model_size((1000, 100), max_tokens=192)
    ((72, 96), (28, 28), (96, 16))
    """
    scale = min(1.0, LARGEST_PX / max(size))
    for multiple in (4, 8, 16):
        height, width = (max(SMALLEST_PX, round(scale * side / multiple) * multiple) for side in size)
        try:
            stride_for((height, width), max_tokens)
        except ValueError:
            continue
        return height, width
    raise AssertionError("sides of 16 px suit every stride up to 16")


def _line(folder: Path, seen: Glance, config: Config) -> str:
    height, width = config.model.image_size
    chosen = f"--model.image_size {height},{width} --model.codec {config.model.codec} --train.stage2_images {config.train.stage2_images}"
    colours = "grey" if seen.is_grey else "in colour"
    return f"{folder}: {seen.num_pictures:,} pictures of about {seen.size[0]} x {seen.size[1]} px, {colours}; chosen for them: {chosen}"
